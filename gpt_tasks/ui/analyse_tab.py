"""Tab: everything about one text at once."""

from collections import deque
from collections.abc import Iterator, Sequence
from html import escape
from time import perf_counter

import gradio as gr

from gpt_tasks.backbone.backbone import Backbone, BackboneInBackground
from gpt_tasks.backbone.tokenizer import replace_surrogates
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.analysis import ENTITIES, EVENTS, RELATIONS, Analysis, analyse
from gpt_tasks.tasks.classifiers import Classifiers
from gpt_tasks.tasks.extraction.extraction_task import ExtractionTask, available_schemas
from gpt_tasks.tasks.extraction.extractors import Extractors
from gpt_tasks.tasks.extraction.formats import as_record
from gpt_tasks.tasks.extraction.text_extraction import Extracted
from gpt_tasks.ui import classification_html, extraction_html
from gpt_tasks.ui.controls import CONCURRENCY, QUIETLY, Run, RunButtons, Stopped, examples
from gpt_tasks.ui.streaming import chips, error_line, windows_notice
from gpt_tasks.ui.texts import label, say

NAME = "analyse"
_DEFAULTS = {"entities": ENTITIES, "relations": RELATIONS, "events": EVENTS}
_SURE = 0.5  # what is less sure is left out
_EXAMPLES = [
    [
        "Shares of Apple fell in New York on Friday after Tim Cook, who lives in Palo Alto, warned that sales in China "
        "had slowed. Investors were disappointed and sold.",
    ],
    [
        "The film is a triumph. Anna Keller, who was born in Vienna, plays the spy with a dry wit, and the audience in "
        "Toronto laughed and cheered.",
    ],
]


def build(background: BackboneInBackground, classifiers: Classifiers, extractors: Extractors, tab: gr.Tab) -> None:
    """
    Args:
        classifiers, extractors: shared with the other tabs
    """
    with gr.Row(equal_height=False):
        with gr.Column():
            text = gr.Textbox(
                lines=9,
                max_lines=18,
                label=label("extract_text_label"),
                placeholder=label("extract_text_placeholder"),
                elem_id="analyse-text",
            )
            with gr.Row():
                pickers = {
                    task: gr.Dropdown(
                        _named(None, task), value=value, label=label(f"{task}_schema_label"), elem_id=f"analyse-{task}"
                    )
                    for task, value in _DEFAULTS.items()
                }
            buttons = RunButtons("analyse")
        with gr.Column():
            shown = gr.HTML(elem_id="analyse-result")
            figures = gr.HTML(elem_id="analyse-figures", elem_classes="figures-box")
    examples(_EXAMPLES, [text])

    def run_analysis(
        request: gr.Request, run: Run, text: str, entities: str, relations: str, events: str
    ) -> Iterator[tuple]:
        begin = perf_counter()
        try:
            backbone, text = background.get(), replace_surrogates(text or "")
            for step in analyse(text, backbone, classifiers, extractors, entities, relations, events, run.go_on):
                run.go_on()
                if isinstance(step, Analysis):
                    tasks = [extractors.get(schema, backbone) for schema in (entities, relations, events)]
                    yield _html(text, step, classifiers, tasks, backbone, request), _lines(step, begin, request)
                elif step.words_done < step.words:
                    progress = chips([say(request, "words_done", done=step.words_done, total=step.words)])
                    yield gr.skip(), progress
        except Stopped:
            if not run.discarded:
                yield gr.skip(), chips([say(request, "ended_stopped")])
        except UserError as error:
            yield gr.skip(), error_line(error, request)

    buttons.connect([buttons.start.click], run_analysis, [text, *pickers.values()], [shown, figures])
    tab.select(_localise, None, list(pickers.values()), **QUIETLY)

    def analyse_text(text: str, entities: str = ENTITIES, relations: str = RELATIONS, events: str = EVENTS) -> dict:
        """Sentiment, topic, intent, entities, relations and events of a text.

        Args:
            text: at most 100,000 characters
            entities: schema, news or social
            relations: schema, conll04 or semeval
            events: schema, litbank, phee or casie
        """
        try:
            steps = analyse(text, background.get(), classifiers, extractors, entities, relations, events)
            found = deque(steps, maxlen=1).pop()
        except UserError as error:
            raise gr.Error(str(error)) from error
        return {
            **{
                name: {"label": one.label, "probability": one.confidence, "windows": one.windows}
                for name, one in found.classified.items()
            },
            **{task: as_record(result) for task, result in found.extracted.items()},
            "passes": found.passes,
        }

    gr.api(analyse_text, api_name="analyse", **CONCURRENCY)


def _localise(request: gr.Request) -> tuple:
    return tuple(gr.update(choices=_named(request, task)) for task in _DEFAULTS)


def _named(request: gr.Request | None, task: str) -> list[tuple[str, str]]:
    return [(say(request, f"schema_{name}"), name) for name in available_schemas()[task]]


def _html(
    text: str,
    found: Analysis,
    classifiers: Classifiers,
    tasks: Sequence[ExtractionTask],
    backbone: Backbone,
    request: gr.Request,
) -> str:
    decisions = "".join(
        f"<section><h4>{escape(say(request, f'task_{name}'))}</h4>"
        f"{classification_html.decision(result, classifiers.get(name, backbone).task, request)}</section>"
        for name, result in found.classified.items()
    )
    sections = "".join(_section(text, found.extracted[task.settings.task], task, request) for task in tasks)
    return f'<div class="decisions">{decisions}</div>{sections}'


def _section(text: str, found: Extracted, task: ExtractionTask, request: gr.Request) -> str:
    title = escape(say(request, f"{found.task}_title"))
    html = extraction_html.shown(text, found.above(_SURE), task.head.shown_labels, request)
    return f"<section><h4>{title}</h4>{html}</section>"


def _lines(found: Analysis, begin: float, request: gr.Request) -> str:
    windows = max(one.windows for one in found.classified.values())
    return windows_notice(windows, request) + chips(
        [
            say(request, "figure_passes", passes=found.passes),
            say(request, "figure_milliseconds", milliseconds=round(1000 * (perf_counter() - begin))),
            say(request, "figure_tokens", tokens=found.tokens),
        ]
    )
