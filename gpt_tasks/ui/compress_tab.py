"""Tab: make the model smaller by a recipe, watch it, read its report, take the result along."""

import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

import gradio as gr

from compression.job import JobState, Limits, follow, job_folder, own_recipe, write_own
from compression.model_or_artifact import read_config_of
from compression.recipe import Recipe, make_recipe, needs_text, read_recipe, recipe_names
from compression.recipe_plan import plan
from gpt_tasks.backbone.backbone import MODEL_VARIABLE, BackboneInBackground, named_artifact
from gpt_tasks.backbone.weights import DEFAULT
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.config import DecoderConfig
from gpt_tasks.ui.controls import QUIETLY, Run, RunButtons
from gpt_tasks.ui.streaming import chips, error_line
from gpt_tasks.ui.texts import has_text, label, say

NAME = "compress"
ONE_AT_A_TIME = {"concurrency_id": "compression", "concurrency_limit": 1}
_OWN = "own"
_FIRST = "int8-fast"
_PRUNINGS = ["none", "depth", "attention", "feed-forward", "vocabulary"]
_OWN_PRECISIONS = ["fp32", "int8_blocks", "int8", "int4"]
_MOST_SPARSITY = 0.75


def build(background: BackboneInBackground, tab: gr.Tab) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=2):
            recipe = gr.Radio(_named_recipes(None), value=_FIRST, label=label("recipe_label"), elem_id="recipe")
            with gr.Group(visible=False) as own:
                pruning = gr.Dropdown(
                    _named_prunings(None), value="none", label=label("pruning_label"), elem_id="pruning"
                )
                sparsity = gr.Slider(
                    0.05, _MOST_SPARSITY, 0.3, step=0.05, label=label("sparsity_label"), info=label("sparsity_info")
                )
                precisions = gr.CheckboxGroup(
                    _OWN_PRECISIONS, value=["int8_blocks"], label=label("precisions_label"), elem_id="precisions"
                )
            buttons = RunButtons("compress", ONE_AT_A_TIME)
            figures = gr.HTML(elem_id="compress-figures", elem_classes="figures-box")
        with gr.Column(scale=3):
            planned = gr.HTML(elem_id="plan")
    report = gr.HTML(elem_id="report")
    download = gr.DownloadButton(label("download_model"), visible=False, size="sm", elem_id="download-model")

    choices = [recipe, pruning, sparsity, precisions]

    def show_plan(request: gr.Request, *chosen) -> tuple:
        own_visible = gr.update(visible=chosen[0] == _OWN)
        try:
            return own_visible, _plan_html(_chosen(*chosen), background, request)
        except UserError as error:
            return own_visible, error_line(error, request)

    def opened(request: gr.Request, *chosen) -> tuple:
        # The browser translates labels, but not the names of choices; see `topic_writing_tab`.
        names = gr.update(choices=_named_recipes(request)), gr.update(choices=_named_prunings(request))
        return *names, *show_plan(request, *chosen)

    def compress(request: gr.Request, run: Run, *chosen) -> Iterator[tuple]:
        nothing = gr.skip(), gr.skip()
        try:
            found = _chosen(*chosen)
            source = str(write_own(_own_content(*chosen))) if chosen[0] == _OWN else found.name
            out = job_folder(found)
            for state in follow(source, out, Limits.from_environment(), run.stop_asked.is_set):
                yield running(state, request), *nothing
            if run.stop_asked.is_set():
                yield chips([say(request, "ended_stopped"), say(request, "job_kept")]), *nothing
                return
        except UserError as error:
            yield error_line(error, request), *nothing
            return
        with tempfile.TemporaryDirectory(prefix="compressed-") as folder:
            packed = shutil.make_archive(str(Path(folder) / found.name), "zip", out / "model")
            done = chips([say(request, "job_done", recipe=found.name)])
            yield done, _report_html(out / "report.html", request), gr.update(value=packed, visible=True)

    for choice in choices:
        choice.change(show_plan, choices, [own, planned], **QUIETLY)
    tab.select(opened, choices, [recipe, pruning, own, planned], **QUIETLY)
    buttons.connect([buttons.start.click], compress, choices, [figures, report, download])


def _named_recipes(request: gr.Request | None) -> list[tuple[str, str]]:
    return [*((name, name) for name in _offered()), (say(request, "own_steps"), _OWN)]


@cache
def _offered() -> list[str]:
    """The recipes that need nothing but the model."""
    return [name for name in recipe_names() if not needs_text(read_recipe(name))]


def _named_prunings(request: gr.Request | None) -> list[tuple[str, str]]:
    return [(say(request, f"pruning_{name.replace('-', '_')}"), name) for name in _PRUNINGS]


def _chosen(recipe: str, *own) -> Recipe:
    """
    Raises:
        UserError: a choice that isn't offered.
    """
    if recipe == _OWN:
        return make_recipe(_own_content(recipe, *own), _OWN)
    if recipe not in _offered():
        raise UserError(f"There is no recipe {recipe}.")
    return read_recipe(recipe)


def _own_content(_: str, pruning: str, sparsity: float, precisions: list[str]) -> dict:
    if pruning not in _PRUNINGS or not set(precisions) <= set(_OWN_PRECISIONS):
        raise UserError("That choice isn't offered.")
    if not precisions:
        raise UserError("Choose at least one precision.", key="no_precision")
    if not 0 < sparsity <= _MOST_SPARSITY:
        raise UserError(f"The sparsity must be more than 0 and at most {_MOST_SPARSITY}.")
    prune = None if pruning == "none" else {"method": pruning, "sparsity": sparsity, "by_influence": pruning == "depth"}
    return own_recipe(_model(), prune, sorted(precisions, key=_OWN_PRECISIONS.index))


def _model() -> str:
    """The model that the page serves, where it can be compressed."""
    artifact = named_artifact()
    if artifact is None:
        return DEFAULT
    if "fp32" not in artifact.precisions:
        raise UserError(
            f"The model in {MODEL_VARIABLE} has no fp32, and quantized numbers are not quantized again.",
            key="no_fp32",
        )
    return str(artifact.folder)


def _plan_html(recipe: Recipe, background: BackboneInBackground, request: gr.Request) -> str:
    served = background.get().artifact
    is_served = named_artifact() is None or recipe.model == str(served.folder)
    config = served.config if is_served else _config_of(recipe.model)
    about = f"recipe_{recipe.name.replace('-', '_')}"
    summary = say(request, about) if has_text(about) else recipe.summary
    rows = "".join(
        f"<tr><td>{escape(step.title)}</td><td>{step.parameters / 10**6:.1f}</td>"
        f"<td>{'' if step.size_mb is None else f'{step.size_mb:.0f}'}</td><td>{step.minutes:.0f}</td>"
        f"<td>{step.memory_mb:.0f}</td></tr>"
        for step in plan(recipe, config)
    )
    heads = "".join(
        f"<th>{escape(say(request, f'plan_{key}'))}</th>" for key in ("step", "weights", "size", "minutes", "memory")
    )
    note = escape(say(request, "plan_note"))
    return (
        f'<p>{escape(summary)}</p><div class="graph-box"><table class="relations plan"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div><p><small>{note}</small></p>"
    )


@cache
def _config_of(model: str) -> DecoderConfig:
    """Opening a model takes seconds: its whole file is verified."""
    return read_config_of(model)


def running(state: JobState, request: gr.Request) -> str:
    if state.waiting:
        return chips([say(request, "job_waiting")])
    if not state.steps:
        return chips([say(request, "job_begins")])
    name = say(request, "job_step", step=state.step, steps=state.steps, name=state.name)
    progress = state.progress
    if progress is None:
        return chips([name])
    share = f'value="{progress.done}" max="{progress.total}"' if progress.total else ""
    said = [name]
    if progress.total:
        said.append(f"{progress.done} / {progress.total}")
    if progress.note:
        said.append(progress.note)
    return f'{chips(said)}<progress class="job" {share}></progress>'


def _report_html(path: Path, request: gr.Request) -> str:
    """The report in a frame of its own: its style sheet is not the page's."""
    content = escape(path.read_text("utf-8"), quote=True)
    title = escape(say(request, "report_title"))
    return f'<iframe class="report" title="{title}" sandbox="" srcdoc="{content}"></iframe>'
