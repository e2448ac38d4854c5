"""The sampling settings of a writing tab."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from gpt_tasks.backbone.sampling import SamplingOptions
from gpt_tasks.errors import UserError
from gpt_tasks.ui.texts import label

DEFAULT_LENGTH = 256
_LONGEST = 2048  # more than anybody waits for; the command line takes more


@dataclass(frozen=True)
class WritingSettings:
    sampling: SamplingOptions
    max_new_tokens: int
    stop: list[str]


def settings_panel(defaults: SamplingOptions) -> list[gr.components.Component]:
    """An accordion of controls; their values, in order, are the arguments of `read_settings`."""
    with gr.Accordion(label("settings"), open=False, elem_classes="settings"):
        length = gr.Slider(1, _LONGEST, DEFAULT_LENGTH, step=1, label=label("length_label"), info=label("length_info"))
        with gr.Row():
            temperature = gr.Slider(
                0, 2, defaults.temperature, step=0.05, label=label("temperature_label"), info=label("temperature_info")
            )
            penalty = gr.Slider(
                1,
                2,
                defaults.repetition_penalty,
                step=0.01,
                label=label("repetition_penalty_label"),
                info=label("repetition_penalty_info"),
            )
        with gr.Row():
            top_k = gr.Slider(0, 200, defaults.top_k, step=1, label=label("top_k_label"), info=label("top_k_info"))
            top_p = gr.Slider(0.01, 1, defaults.top_p, step=0.01, label=label("top_p_label"), info=label("top_p_info"))
        with gr.Row():
            min_p = gr.Slider(0, 0.5, defaults.min_p, step=0.01, label=label("min_p_label"), info=label("min_p_info"))
            # Not a Number: an empty one shows and means 0, which is a seed.
            seed = gr.Textbox("", max_lines=1, label=label("seed_label"), info=label("seed_info"))
        stop = gr.Textbox("", lines=2, label=label("stop_strings_label"), info=label("stop_strings_info"))
    return [length, temperature, top_k, top_p, min_p, penalty, seed, stop]


def read_settings(length, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop) -> WritingSettings:
    """The controls' values as options. A field that was emptied is None.

    Raises:
        UserError: a value that is missing or out of its range.
    """

    def number(value: object, name: str, convert: Callable) -> float:
        try:
            return convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{name} is not a number. Enter one.", key="not_a_number", name=name) from error

    sampling = SamplingOptions(
        temperature=number(temperature, "temperature", float),
        top_k=number(top_k, "top-k", int),
        top_p=number(top_p, "top-p", float),
        min_p=number(min_p, "min-p", float),
        repetition_penalty=number(repetition_penalty, "repetition penalty", float),
        seed=number(seed, "seed", int) if str(seed or "").strip() else None,
    )
    return WritingSettings(sampling, number(length, "length", int), [line for line in (stop or "").split("\n") if line])
