"""Tab: entities, relations or events of a text, marked in it."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import gradio as gr

from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.backbone.tokenizer import replace_surrogates
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.extraction.extraction_task import available_schemas
from gpt_tasks.tasks.extraction.extractors import Extractors
from gpt_tasks.tasks.extraction.formats import as_conll, as_csv, as_record
from gpt_tasks.tasks.extraction.text_extraction import Extracted
from gpt_tasks.ui import extraction_html
from gpt_tasks.ui.controls import CONCURRENCY, QUIETLY, Run, RunButtons, examples
from gpt_tasks.ui.streaming import chips, error_line
from gpt_tasks.ui.texts import label, say

NAME = "extract"
_EXAMPLES = [
    [
        "Tim Cook, the chief executive of Apple, met Chancellor Olaf Scholz in Berlin on Monday before he flew to the "
        "Mobile World Congress in Barcelona.",
        "news",
    ],
    [
        "cant wait to see Beyonce at Wembley 2nite!! thx @ticketmaster for the upgrade, watching Lemonade on my iPad",
        "social",
    ],
    [
        "John Wilkes Booth shot Abraham Lincoln in Washington. Marie Curie, who was born in Warsaw, worked for the "
        "University of Paris.",
        "conll04",
    ],
    ["The burst pipe caused a flood in the cellar, and the plumber fixed it with a wrench.", "semeval"],
    ["She laughed, took the lamp from the table and went upstairs, where nobody had slept for years.", "litbank"],
    [
        "A 45-year-old woman developed severe tremor after two weeks of treatment with lithium for bipolar disorder.",
        "phee",
    ],
    ["Attackers used a phishing e-mail to steal the data of 50 million Facebook users last week.", "casie"],
]


@dataclass(frozen=True)
class _Result:
    """What the threshold's slider filters anew."""

    text: str
    found: Extracted
    labels: Sequence[str]
    tokens: int
    seconds: float
    stopped: bool
    """before its end"""


def build(background: BackboneInBackground, extractors: Extractors, tab: gr.Tab) -> None:
    """
    Args:
        extractors: shared with the other tabs
    """
    schemas = [name for names in available_schemas().values() for name in names]
    result = gr.State()
    with gr.Row(equal_height=False):
        with gr.Column():
            schema = gr.Radio(_named(None), value=schemas[0], label=label("schema_label"), elem_id="extract-schema")
            text = gr.Textbox(
                lines=9,
                max_lines=18,
                label=label("extract_text_label"),
                placeholder=label("extract_text_placeholder"),
                elem_id="extract-text",
            )
            buttons = RunButtons("extract")
            threshold = gr.Slider(
                0, 100, value=50, step=1, label=label("threshold"), info=label("threshold_info"), elem_id="threshold"
            )
        with gr.Column():
            shown = gr.HTML(elem_id="extract-result")
            figures = gr.HTML(elem_id="extract-figures", elem_classes="figures-box")
            # Not three DownloadButtons: with them on the page, Gradio 6.17 loses updates of the other tabs' buttons.
            files = gr.File(
                label=label("extract_files"),
                file_count="multiple",
                interactive=False,
                visible=False,
                elem_id="extract-files",
            )
    examples([row for row in _EXAMPLES if row[1] in schemas], [text, schema])
    outputs = [result, shown, figures, files]

    def extract(request: gr.Request, run: Run, schema: str, text: str, threshold: float) -> Iterator[tuple]:
        try:
            backbone = background.get()
            task, extractor = extractors.get(schema, backbone), extractors.extractor(backbone)
            text = replace_surrogates(text or "")
            begin, tokens, read = perf_counter(), 0, None
            found = Extracted(task.settings.task, task.settings.schema)
            for part in extractor.parts(text, [task]):
                if run.stop_asked.is_set():
                    break
                found.extend(part.found[0])
                read, tokens = part, tokens + part.tokens
                if part.words_done < part.words:
                    progress = chips([say(request, "words_done", done=part.words_done, total=part.words)])
                    yield gr.skip(), gr.skip(), progress, gr.skip()
            if run.discarded:
                return
            if read is None:  # stopped in the first piece: nothing is known of the text
                yield gr.skip(), gr.skip(), chips([say(request, "ended_stopped")]), gr.skip()
                return
            stopped = read.words_done < read.words
            made = _Result(text, found, task.head.shown_labels, tokens, perf_counter() - begin, stopped)
            for view in _views(made, threshold, request):
                yield made, *view
        except UserError as error:
            yield gr.skip(), gr.skip(), error_line(error, request), gr.skip()

    def filter_again(request: gr.Request, made: _Result | None, threshold: float) -> Iterator[tuple]:
        if made is None:
            yield tuple(gr.skip() for _ in outputs[1:])
        else:
            yield from _views(made, threshold, request)

    buttons.connect([buttons.start.click], extract, [schema, text, threshold], outputs)
    # Through the queue: only there may a function yield.
    threshold.change(
        filter_again, [result, threshold], outputs[1:], trigger_mode="always_last", **{**QUIETLY, "queue": True}
    )
    # The browser translates labels, but not the names of choices; see `topic_writing_tab`.
    tab.select(_localise, None, schema, **QUIETLY)
    _add_endpoints(background, extractors)


def _add_endpoints(background: BackboneInBackground, extractors: Extractors) -> None:
    def extract_with(schema: str, text: str, task: str) -> dict:
        if schema not in available_schemas().get(task, []):
            raise gr.Error(f"The task {task} has the schemas {', '.join(available_schemas().get(task, []))}.")
        try:
            backbone = background.get()
            found = extractors.extractor(backbone).extract(text, [extractors.get(schema, backbone)])[0]
        except UserError as error:
            raise gr.Error(str(error)) from error
        return as_record(found)

    def entities(text: str, schema: str = "news") -> dict:
        """Named entities of a text, with their places in it (characters, the end exclusive).

        Args:
            text: at most 2,000,000 characters
            schema: news or social
        """
        return extract_with(schema, text, "entities")

    def relations(text: str, schema: str = "conll04") -> dict:
        """Entities of a text and how they are related.

        Args:
            text: at most 2,000,000 characters
            schema: conll04 or semeval
        """
        return extract_with(schema, text, "relations")

    def events(text: str, schema: str = "litbank") -> dict:
        """Events of a text: type, trigger, arguments by role.

        Args:
            text: at most 2,000,000 characters
            schema: litbank, phee or casie
        """
        return extract_with(schema, text, "events")

    offered = available_schemas()
    for function in (entities, relations, events):
        if function.__name__ in offered:
            gr.api(function, api_name=function.__name__, **CONCURRENCY)


def _views(made: _Result, threshold: float, request: gr.Request) -> Iterator[tuple]:
    """The result's HTML, its figures and the downloads."""
    found = made.found.above(threshold / 100)
    html = extraction_html.shown(made.text, found, made.labels, request)
    files = {
        "found.json": json.dumps(as_record(found), ensure_ascii=False, indent=2),
        "found.csv": "\ufeff" + as_csv(found),
        "found.conll": as_conll(made.text, found),
    }
    # Gradio has copied the files by the time that the next line runs.
    with tempfile.TemporaryDirectory(prefix="extracted-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(content, "utf-8", newline="")
        yield html, _lines(made, found, request), gr.update(value=[f"{folder}/{name}" for name in files], visible=True)


def _lines(made: _Result, shown: Extracted, request: gr.Request) -> str:
    """
    Args:
        shown: what of the result is sure enough
    """
    counts = {"entities": shown.entities, "relations": shown.relations, "events": shown.events}
    texts = [say(request, f"figure_{name}", count=len(items)) for name, items in counts.items() if items]
    texts.append(say(request, "figure_milliseconds", milliseconds=round(1000 * made.seconds)))
    texts.append(say(request, "figure_tokens", tokens=made.tokens))
    if made.stopped:
        texts.append(say(request, "ended_stopped"))
    return chips(texts)


def _named(request: gr.Request | None) -> list[tuple[str, str]]:
    return [(say(request, f"schema_{name}"), name) for names in available_schemas().values() for name in names]


def _localise(request: gr.Request) -> dict:
    return gr.update(choices=_named(request))
