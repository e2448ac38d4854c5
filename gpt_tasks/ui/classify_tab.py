"""Tab: sentiment, news topic or intent of one text or many."""

import csv
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import gradio as gr

from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.backbone.tokenizer import replace_surrogates
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.attribution import attribute
from gpt_tasks.tasks.classification import CHUNK, Classified, TextClassifier, require_texts
from gpt_tasks.tasks.classifiers import Classifiers, available
from gpt_tasks.tasks.text_files import read_text_file, require_at_most
from gpt_tasks.tasks.zero_shot import TEMPLATE, ZeroShotClassifier
from gpt_tasks.ui import classification_html
from gpt_tasks.ui.controls import CONCURRENCY, QUIETLY, Run, RunButtons, Stopped, examples
from gpt_tasks.ui.streaming import chips, error_line, notice_line, windows_notice
from gpt_tasks.ui.texts import label, say

NAME = "classify"
MOST_TEXTS = 50_000
_SHOWN_ROWS = 200
_ZERO_SHOT_CHUNK = 8  # texts, each read by itself
_LONGEST_SHOWN = 160  # characters of a text in the table
ZERO_SHOT = "zero_shot"
"""the choice of labels of one's own"""
_EXAMPLES = [
    ["The acting is superb, but the story falls apart in the last half hour.", "sentiment", ""],
    ["The bank cut a thousand jobs after its quarterly profit fell.", "news_topic", ""],
    ["how do i move money from my checking account to savings", "intent", ""],
    ["what is the airspeed of an unladen swallow", "intent", ""],
    ["Chop the onions, fry them in butter and add the rice.", ZERO_SHOT, "cooking, sports, astronomy"],
]


def build(background: BackboneInBackground, classifiers: Classifiers, tab: gr.Tab) -> None:
    """
    Args:
        classifiers: shared with the other tabs
    """
    tasks = available()
    with gr.Row(equal_height=False):
        with gr.Column():
            task = gr.Radio(_named_tasks(None), value=tasks[0], label=label("task_label"), elem_id="classify-task")
            with gr.Group(visible=False) as own:
                labels = gr.Textbox(
                    label=label("labels_label"), placeholder=label("labels_placeholder"), elem_id="labels"
                )
                template = gr.Textbox(
                    value=TEMPLATE, label=label("template_label"), info=label("template_info"), elem_id="template"
                )
            text = gr.Textbox(
                lines=6,
                max_lines=16,
                label=label("classify_text_label"),
                placeholder=label("classify_text_placeholder"),
                elem_id="classify-text",
            )
            line_by_line = gr.Checkbox(label=label("line_by_line"), info=label("line_by_line_info"), elem_id="by-line")
            file = gr.File(
                label=label("file_label"), file_types=[".csv", ".tsv", ".jsonl", ".txt"], height=160, elem_id="file"
            )
            buttons = RunButtons("classify")
        with gr.Column():
            result = gr.HTML(elem_id="classify-result")
            figures = gr.HTML(elem_id="classify-figures", elem_classes="figures-box")
            table = gr.Dataframe(
                headers=["text", "label", "%"], visible=False, interactive=False, wrap=True, elem_id="classify-table"
            )
            download = gr.DownloadButton(label("download_table"), visible=False, size="sm", elem_id="classify-download")
    examples([row for row in _EXAMPLES if row[1] in {*tasks, ZERO_SHOT}], [text, task, labels])

    def classify(
        request: gr.Request,
        run: Run,
        task: str,
        labels: str,
        template: str,
        text: str,
        line_by_line: bool,
        file: str | None,
    ) -> Iterator[tuple]:
        try:
            backbone = background.get()
            texts = _texts(replace_surrogates(text or ""), line_by_line, file)
            if task == ZERO_SHOT:
                classifier = ZeroShotClassifier(backbone.engine, backbone.tokenizer, _split(labels), template)
            else:
                classifier = classifiers.get(task, backbone)
            if len(texts) == 1 and not file:
                yield from _one(classifier, texts[0], request, run)
            else:
                yield from _many(classifier, texts, request, run)
        except UserError as error:
            yield gr.skip(), error_line(error, request), gr.skip(), gr.skip()

    buttons.connect(
        [buttons.start.click],
        classify,
        [task, labels, template, text, line_by_line, file],
        [result, figures, table, download],
    )
    task.change(lambda task: gr.update(visible=task == ZERO_SHOT), task, own, **QUIETLY)
    # The browser translates labels, but not the names of choices; see `topic_writing_tab`.
    tab.select(_localise_tasks, None, task, **QUIETLY)

    def classify_text(text: str, task: str = tasks[0]) -> dict:
        """Label, calibrated probabilities and out-of-scope decision of a text.

        Args:
            text: what to classify
            task: sentiment, news_topic or intent
        """
        try:
            found = classifiers.get(task, background.get()).classify([text])[0]
        except UserError as error:
            raise gr.Error(str(error)) from error
        return {
            "label": found.label,
            "probability": found.confidence,
            "out_of_scope": found.out_of_scope,
            "probabilities": found.probabilities,
            "tokens": found.tokens,
            "windows": found.windows,
        }

    def zero_shot(text: str, labels: str, template: str = TEMPLATE) -> dict:
        """The likeliest of any labels, without training.

        Args:
            text: what to classify
            labels: separated by commas
            template: a sentence with {} for the label
        """
        try:
            backbone = background.get()
            found = ZeroShotClassifier(backbone.engine, backbone.tokenizer, _split(labels), template).classify(text)
        except UserError as error:
            raise gr.Error(str(error)) from error
        return {
            "label": found.label,
            "probabilities": found.probabilities,
            "tokens": found.tokens,
            "cut": found.cut,
        }

    gr.api(classify_text, api_name="classify", **CONCURRENCY)
    gr.api(zero_shot, api_name="zero_shot", **CONCURRENCY)


def _split(labels: str) -> list[str]:
    return labels.replace("，", ",").split(",")


def _localise_tasks(request: gr.Request) -> dict:
    return gr.update(choices=_named_tasks(request))


def _named_tasks(request: gr.Request | None) -> list[tuple[str, str]]:
    return [(say(request, f"task_{name}"), name) for name in (*available(), ZERO_SHOT)]


def _texts(text: str, line_by_line: bool, file: str | None) -> list[str]:
    """
    Raises:
        UserError: nothing to classify, too much, a file that can't be read.
    """
    if file:
        texts = [row.text for row in read_text_file(Path(file))]
    elif line_by_line:
        texts = [line for line in text.split("\n") if line.strip()]
    else:
        texts = [text]
    require_texts(texts)
    require_at_most(len(texts), MOST_TEXTS)
    return texts


def _read(classifier: TextClassifier | ZeroShotClassifier, texts: Sequence[str], run: Run) -> list[Classified]:
    """
    Raises:
        Stopped: the visitor stopped it, perhaps in the middle of a long text.
    """
    if isinstance(classifier, TextClassifier):
        return classifier.classify(texts, between=run.go_on)
    return [classifier.classify(text) for text in texts]


def _one(classifier: TextClassifier | ZeroShotClassifier, text: str, request: gr.Request, run: Run) -> Iterator[tuple]:
    begin = perf_counter()
    hidden = gr.update(visible=False), gr.update(visible=False)
    try:
        found = _read(classifier, [text], run)[0]
    except Stopped:
        if not run.discarded:
            yield "", chips([say(request, "ended_stopped")]), *hidden
        return
    milliseconds = 1000 * (perf_counter() - begin)
    task = classifier.task if isinstance(classifier, TextClassifier) else None
    decision = classification_html.decision(found, task, request)
    lines = _chips_of([found], milliseconds, request)
    if found.cut:
        lines = notice_line(say(request, "text_cut", most=classifier.most_tokens)) + lines
    yield decision, lines, *hidden
    if task is None or found.windows > 1:
        return
    # The words come after the decision: they take as many readings of the text as it has words.
    try:
        weights = attribute(classifier, text, found.label, run.go_on)
    except Stopped:
        return  # the decision stands
    if weights:
        yield decision + classification_html.words(text, weights, request), lines, *hidden


def _many(
    classifier: TextClassifier | ZeroShotClassifier, texts: Sequence[str], request: gr.Request, run: Run
) -> Iterator[tuple]:
    begin = perf_counter()
    found: list[Classified] = []
    chunk = CHUNK if isinstance(classifier, TextClassifier) else _ZERO_SHOT_CHUNK
    # The table stays as it is meanwhile: Gradio in the browser loses the second of two quick changes of visibility.
    for start in range(0, len(texts), chunk):
        try:
            run.go_on()
            found += _read(classifier, texts[start : start + chunk], run)
        except Stopped:
            break
        yield "", chips([say(request, "texts_done", done=len(found), total=len(texts))]), gr.skip(), gr.skip()
    if run.discarded:
        return
    lines = _chips_of(found, 1000 * (perf_counter() - begin), request)
    if any(result.cut for result in found):
        lines = notice_line(say(request, "text_cut", most=classifier.most_tokens)) + lines
    if len(found) < len(texts):
        lines += chips([say(request, "ended_stopped")])
    rows = [
        [_shortened(text), _label(result, request), f"{100 * result.confidence:.1f}"]
        for text, result in zip(texts[:_SHOWN_ROWS], found, strict=False)
    ]
    if len(found) > _SHOWN_ROWS:
        lines += notice_line(say(request, "first_rows_shown", rows=_SHOWN_ROWS))
    # Gradio has copied the file by the time that the next line runs.
    with tempfile.TemporaryDirectory(prefix="classified-") as folder:
        path = Path(folder) / "classified.csv"
        _write_table(path, texts, found)
        yield "", lines, gr.update(value=rows, visible=bool(rows)), gr.update(value=str(path), visible=bool(rows))


def _label(result: Classified, request: gr.Request) -> str:
    return say(request, "out_of_scope_short") if result.out_of_scope else classification_html.name_of(result.label)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _chips_of(found: Sequence[Classified], milliseconds: float, request: gr.Request) -> str:
    tokens = sum(result.tokens for result in found)
    texts = [say(request, "figure_milliseconds", milliseconds=round(milliseconds))]
    if len(found) > 1:
        texts.append(say(request, "figure_texts", texts=len(found), speed=round(1000 * len(found) / milliseconds)))
    texts.append(say(request, "figure_tokens", tokens=tokens))
    return windows_notice(max((result.windows for result in found), default=1), request) + chips(texts)


def _write_table(path: Path, texts: Sequence[str], found: Sequence[Classified]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "probability", "out_of_scope"])
        for text, result in zip(texts, found, strict=False):
            writer.writerow([text, result.label, f"{result.confidence:.4f}", result.out_of_scope])
