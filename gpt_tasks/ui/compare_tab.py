"""Tab: two to four variants of the model answer the same prompt, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from threading import Lock
from time import monotonic

import gradio as gr

from compression.comparison import FEWEST, MOST, Answer, Facts, Variant, answer, by_key, variants
from compression.job import Limits, follow
from compression.recipe import read_recipe
from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.text_files import require_length
from gpt_tasks.ui.compress_tab import MOST_VISITORS, running
from gpt_tasks.ui.controls import QUIETLY, Run, RunButtons, new_choices
from gpt_tasks.ui.streaming import chips, error_line
from gpt_tasks.ui.texts import has_text, label, say

NAME = "compare"
_PROMPT = "Give me three reasons to learn to cook."
_LONGEST = 256
_MOST_CHARACTERS = 4000
_SECONDS_BETWEEN_UPDATES = 0.1
_LOOK_SECONDS = 0.3
_OFFER_SECONDS = 1
_answering = Lock()


def build(background: BackboneInBackground, tab: gr.Tab) -> None:
    chosen = gr.Dropdown(
        [], multiselect=True, max_choices=MOST, label=label("variants_label"), info=label("variants_info"),
        elem_id="variants",
    )  # fmt: skip
    with gr.Row(equal_height=False):
        prompt = gr.Textbox(_PROMPT, lines=2, label=label("compare_prompt_label"), scale=3, elem_id="compare-prompt")
        with gr.Column(scale=2):
            tokens = gr.Slider(8, _LONGEST, 64, step=8, label=label("length_label"))
            as_chat = gr.Checkbox(True, label=label("as_chat_label"))
    buttons = RunButtons("compare", {"concurrency_id": "comparison", "concurrency_limit": MOST_VISITORS})
    figures = gr.HTML(elem_id="compare-figures", elem_classes="figures-box")
    answers = gr.HTML(elem_id="answers")
    until_loaded = gr.Timer(_OFFER_SECONDS)

    def offer(request: gr.Request, before: list[str] | None) -> tuple:
        """The variants that there are by now; what was chosen stays."""
        if background.backbone is None:
            return gr.skip(), gr.skip()
        there = variants(background.backbone.artifact)
        keys = [variant.key for variant in there]
        choices = [(variant.key if variant.folder else say(request, "not_built", name=variant.key), variant.key)
                   for variant in there]  # fmt: skip
        kept = [key for key in before or [] if key in keys] or keys[:FEWEST]
        return new_choices(choices, before, kept), gr.update(active=False)

    def compare(request: gr.Request, run: Run, keys: list[str], prompt: str, tokens: int, as_chat: bool) -> Iterator:
        try:
            there = variants(background.get().artifact)
            picked = by_key(keys or [], there)
            if not FEWEST <= len(picked) <= MOST:
                raise UserError(f"Choose {FEWEST} to {MOST} variants.", key="choose_variants", few=FEWEST, many=MOST)
            if not (prompt or "").strip():
                raise UserError("The prompt is empty.", key="empty_text")
            require_length(prompt, _MOST_CHARACTERS)
            for variant in picked:
                if variant.folder is None:
                    recipe = read_recipe(variant.recipe)
                    for state in follow(recipe, Limits.from_environment(), run.stop_asked.is_set):
                        yield running(state, request), gr.skip()
            if not run.stop_asked.is_set():
                picked = by_key(keys, variants(background.get().artifact))
                updates = _answers(picked, prompt, int(tokens), as_chat, run, request)
                yield from _in_turn(updates, run, request)
        except UserError as error:
            yield error_line(error, request), gr.skip()
            return
        if run.stop_asked.is_set():
            yield chips([say(request, "ended_stopped")]), gr.skip()

    gr.on([until_loaded.tick, tab.select], offer, chosen, [chosen, until_loaded], **QUIETLY)
    buttons.connect(
        [buttons.start.click, prompt.submit], compare, [chosen, prompt, tokens, as_chat], [figures, answers]
    )


def _in_turn(updates: Iterator[tuple], run: Run, request: gr.Request) -> Iterator[tuple]:
    """One visitor after the other: two comparisons at once would slow each other."""
    while not _answering.acquire(timeout=_LOOK_SECONDS):
        if run.stop_asked.is_set():
            return
        yield chips([say(request, "compare_waiting")]), gr.skip()
    try:
        yield from updates
    finally:
        _answering.release()


def _answers(
    picked: Sequence[Variant], prompt: str, tokens: int, as_chat: bool, run: Run, request: gr.Request
) -> Iterator[tuple[str, str]]:
    """One after the other, each with the whole machine: side by side they would slow each other."""
    facts = {variant.key: variant.facts() for variant in picked}
    done: list[Answer] = []
    for variant in picked:
        shown = 0.0
        for found in answer(variant, prompt, tokens, as_chat):
            if run.stop_asked.is_set():
                return
            if monotonic() - shown > _SECONDS_BETWEEN_UPDATES:
                shown = monotonic()
                yield "", _cards([*done, found], facts, request)
        done.append(found)
        yield "", _cards(done, facts, request)


def _cards(found: Sequence[Answer], facts: Mapping[str, Facts], request: gr.Request) -> str:
    cards = "".join(_card(one, found[0], facts[one.variant.key], request) for one in found)
    return f'<div class="cards answers">{cards}</div>'


def _card(one: Answer, first: Answer, facts: Facts, request: gr.Request) -> str:
    different = None if one is first else one.first_difference(first)
    if different is None:
        text = escape("".join(one.pieces))
    else:
        before, at, after = one.pieces[:different], one.pieces[different], one.pieces[different + 1 :]
        title = escape(say(request, "first_difference", token=different + 1))
        mark = f'<mark class="difference" title="{title}">{escape(at)}</mark>'
        text = f"{escape(''.join(before))}{mark}{escape(''.join(after))}"
    said = [
        say(request, "figure_first", milliseconds=round(one.time_to_first_token_ms)),
        say(request, "figure_speed", speed=round(one.tokens_per_second)),
        say(request, "figure_size", megabytes=round(one.size_mb)),
        say(request, "figure_memory", megabytes=round(one.memory_mb)),
    ]
    if facts.ratio is not None:
        said.append(say(request, "figure_ratio", ratio=f"{facts.ratio:.3f}"))
    said += [f"{_name_of(task, request)} {100 * score:.1f} %" for task, score in facts.tasks.items()]
    if facts.trained:
        scores = ", ".join(f"{_name_of(task, request)} {100 * score:.1f} %" for task, score in facts.trained.items())
        said.append(say(request, "figure_trained", scores=scores))
    if one is not first:
        key = "same_so_far" if different is None else "differs_at"
        said.append(say(request, key, token=(different or 0) + 1))
    name = f'<div class="card-trigger">{escape(one.variant.key)}</div>'
    return f'<div class="card">{name}<p class="answer">{text}</p>{chips(said)}</div>'


def _name_of(task: str, request: gr.Request) -> str:
    """A task that comes with the project has a name in the visitor's language; another one is a folder's name."""
    return say(request, f"task_{task}") if has_text(f"task_{task}") else task
