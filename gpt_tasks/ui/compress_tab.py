"""Tab: make the model smaller by a recipe, watch it, read its report, take the result along."""

import os
import tempfile
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

import gradio as gr

from compression.comparison import compressible
from compression.job import JobState, Limits, fits_any_model, follow, job_folder, on_model, own_recipe, packed
from compression.model_or_artifact import read_config_of
from compression.recipe import Recipe, make_recipe, needs_text, read_recipe, recipe_names
from compression.recipe_plan import plan
from gpt_tasks.backbone.backbone import MODEL_VARIABLE, BackboneInBackground, named_artifact
from gpt_tasks.backbone.weights import DEFAULT, DEFAULT_NAME
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.config import DecoderConfig
from gpt_tasks.ui.controls import QUIETLY, Run, RunButtons, new_choices
from gpt_tasks.ui.streaming import chips, error_line
from gpt_tasks.ui.texts import has_text, label, say

NAME = "compress"
MOST_VISITORS = 16
"""run or wait at once. `follow` has the queue: in Gradio's own, a run that waits says nothing and can't be stopped."""
_SERVED = "served"
_OWN = "own"
_FIRST = "int8-fast"
_PRUNINGS = ["none", "depth", "attention", "feed-forward", "vocabulary"]
_OWN_PRECISIONS = ["fp32", "int8_blocks", "int8", "int4"]
_MOST_SPARSITY = 0.75


def build(background: BackboneInBackground, tab: gr.Tab) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=2):
            model = gr.Dropdown(
                _named_models(None), value=_SERVED, label=label("compressed_model_label"), elem_id="compressed-model"
            )
            recipe = gr.Radio(
                _named_recipes(None, _SERVED), value=_FIRST, label=label("recipe_label"), elem_id="recipe"
            )
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
            buttons = RunButtons("compress", {"concurrency_id": "compression", "concurrency_limit": MOST_VISITORS})
            figures = gr.HTML(elem_id="compress-figures", elem_classes="figures-box")
        with gr.Column(scale=3):
            planned = gr.HTML(elem_id="plan")
    report = gr.HTML(elem_id="report")
    download = gr.DownloadButton(label("download_model"), visible=False, size="sm", elem_id="download-model")

    choices = [model, recipe, pruning, sparsity, precisions]

    def show_plan(request: gr.Request, *chosen) -> tuple:
        own_visible = gr.update(visible=chosen[1] == _OWN)
        try:
            return own_visible, _plan_html(_chosen(*chosen), chosen[1], background, request)
        except UserError as error:
            return own_visible, error_line(error, request)

    def offer_recipes(request: gr.Request, model: str, recipe: str, *own) -> tuple:
        """Those that the chosen model bears; what was chosen stays, where it can."""
        named = _named_recipes(request, model)
        kept = recipe if recipe in [value for _, value in named] else _FIRST
        return new_choices(named, recipe, kept), *show_plan(request, model, kept, *own)

    def opened(request: gr.Request, model: str, *chosen) -> tuple:
        # The browser translates labels, but not the names of choices; see `topic_writing_tab`.
        models = _named_models(request)
        kept = model if model in [value for _, value in models] else _SERVED
        names = new_choices(models, model, kept), gr.update(choices=_named_prunings(request))
        return *names, *offer_recipes(request, kept, *chosen)

    def compress(request: gr.Request, run: Run, *chosen) -> Iterator[tuple]:
        nothing = gr.skip(), gr.skip()
        try:
            found = _chosen(*chosen)
            yield gr.skip(), "", gr.update(visible=False)  # an earlier job's
            for state in follow(found, Limits.from_environment(), run.stop_asked.is_set):
                yield running(state, request), *nothing
            if run.stop_asked.is_set():
                yield chips([say(request, "ended_stopped"), say(request, "job_kept")]), *nothing
                return
            done = chips([say(request, "job_done", recipe=found.name)])
            yield done, _report_html(job_folder(found) / "report.html", request), gr.skip()
            with tempfile.TemporaryDirectory(prefix="compressed-") as folder:
                yield done, gr.skip(), gr.update(value=str(packed(found, Path(folder))), visible=True)
        except UserError as error:
            yield error_line(error, request), *nothing

    model.change(offer_recipes, choices, [recipe, own, planned], **QUIETLY)
    for choice in choices[1:]:
        choice.change(show_plan, choices, [own, planned], **QUIETLY)
    tab.select(opened, choices, [model, pruning, recipe, own, planned], **QUIETLY)
    buttons.connect([buttons.start.click], compress, choices, [figures, report, download])


def _named_models(request: gr.Request | None) -> list[tuple[str, str]]:
    """The one that is served, the default one where that is another, and what recipes have made of them."""
    default = [(DEFAULT_NAME, DEFAULT)] if os.environ.get(MODEL_VARIABLE) else []
    return [(say(request, "served_model"), _SERVED), *default, *((name, name) for name in compressible())]


def _named_recipes(request: gr.Request | None, model: str) -> list[tuple[str, str]]:
    return [*((name, name) for name in _offered(model)), (say(request, "own_steps"), _OWN)]


def _offered(model: str) -> list[str]:
    """The recipes that need nothing but this model."""
    is_default = model == DEFAULT or (model == _SERVED and not os.environ.get(MODEL_VARIABLE))
    return [name for name, recipe in _without_text().items() if is_default or fits_any_model(recipe)]


@cache
def _without_text() -> dict[str, Recipe]:
    recipes = {name: read_recipe(name) for name in recipe_names()}
    return {name: recipe for name, recipe in recipes.items() if not needs_text(recipe)}


def _named_prunings(request: gr.Request | None) -> list[tuple[str, str]]:
    return [(say(request, f"pruning_{name.replace('-', '_')}"), name) for name in _PRUNINGS]


def _chosen(model: str, recipe: str, *own) -> Recipe:
    """
    Raises:
        UserError: a choice that isn't offered.
    """
    source = _source(model)
    if recipe == _OWN:
        return make_recipe(_own_content(source, *own), _OWN)
    if recipe not in _offered(model):
        raise UserError(f"There is no recipe {recipe} for this model.")
    found = read_recipe(recipe)
    return found if found.model == source else on_model(found, source)


def _own_content(source: str, pruning: str, sparsity: float, precisions: list[str]) -> dict:
    if pruning not in _PRUNINGS or not set(precisions) <= set(_OWN_PRECISIONS):
        raise UserError("That choice isn't offered.")
    if not precisions:
        raise UserError("Choose at least one precision.", key="no_precision")
    if not 0 < sparsity <= _MOST_SPARSITY:
        raise UserError(f"The sparsity must be more than 0 and at most {_MOST_SPARSITY}.")
    prune = None if pruning == "none" else {"method": pruning, "sparsity": sparsity, "by_influence": pruning == "depth"}
    return own_recipe(source, prune, sorted(precisions, key=_OWN_PRECISIONS.index))


def _source(model: str) -> str:
    """What a choice of model stands for, as a recipe names it.

    Raises:
        UserError: it can't be compressed, or is there no more.
    """
    if model == _SERVED:
        return _served()
    found = {DEFAULT: DEFAULT, **compressible()}
    if model not in found:
        raise UserError(f"There is no model {model} any more. Choose another one.", key="model_gone", name=model)
    return found[model]


def _served() -> str:
    artifact = named_artifact()
    if artifact is None:
        return DEFAULT
    if "fp32" not in artifact.precisions:
        raise UserError(
            f"The model in {MODEL_VARIABLE} has no fp32, and quantized numbers are not quantized again.",
            key="no_fp32",
        )
    return str(artifact.folder)


def _plan_html(recipe: Recipe, name: str, background: BackboneInBackground, request: gr.Request) -> str:
    """name: of the recipe as it was chosen, on whatever model"""
    served = background.get().artifact
    is_served = recipe.model == (str(served.folder) if named_artifact() else DEFAULT)
    config = served.config if is_served else _config_of(recipe.model)
    about = f"recipe_{name.replace('-', '_')}"
    summary = say(request, about) if has_text(about) else recipe.summary
    rows = "".join(
        f"<tr><td>{escape(step.title)}</td><td>{step.parameters / 10**6:.1f}</td>"
        f"<td>{'' if step.size_mb is None else f'{step.size_mb:.0f}'}</td><td>{max(1, round(step.minutes))}</td>"
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
