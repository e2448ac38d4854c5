"""Tab: teach a classifier of one's own from a few examples, try it, take it along."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import gradio as gr
import numpy as np

from gpt_tasks.backbone.backbone import Backbone, BackboneInBackground
from gpt_tasks.backbone.tokenizer import replace_surrogates
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.classification import require_texts
from gpt_tasks.tasks.lesson import PICTURE_NAME, learn_apart
from gpt_tasks.tasks.taught import FeatureReader, Taught, TaughtClassifier, from_file, numbered, to_bytes
from gpt_tasks.tasks.text_files import LabelledText, read_text_file, require_at_most
from gpt_tasks.tasks.trained_task import TAUGHT_FILE
from gpt_tasks.tasks.windows import WindowReader
from gpt_tasks.ui.classification_html import decision
from gpt_tasks.ui.controls import CONCURRENCY, Run, RunButtons, Stopped
from gpt_tasks.ui.streaming import chips, error_line, windows_notice
from gpt_tasks.ui.texts import label, say

NAME = "teach"
_MOST_EXAMPLES = 2000
_MOST_CHARACTERS = 100_000  # of a text to try: nothing stops its reading
_EXAMPLES = """\
delivery: Where is my parcel?
delivery: When will my order arrive?
delivery: The tracking page has shown the same city for days.
delivery: Has my package left the warehouse yet?
delivery: The courier never rang, and my parcel is gone.
refund: I want my money back.
refund: When do I get my refund?
refund: Please return the payment to my card.
refund: The refund hasn't reached my bank account yet.
refund: I sent the lamp back: how long until I am paid?
size: Which size should I take if I am 1.80 m tall?
size: Do these shoes run small?
size: Is the jacket in medium wide enough for me?
size: My feet are between 42 and 43, what do you advise?
size: How long are the sleeves of the small shirt?"""


def build(background: BackboneInBackground) -> None:
    taught = gr.State()  # a visitor's own; goes with their session
    with gr.Row(equal_height=False):
        with gr.Column():
            lines = gr.Textbox(
                value=_EXAMPLES,
                lines=12,
                max_lines=20,
                label=label("teach_lines_label"),
                info=label("teach_lines_info"),
                elem_id="teach-lines",
            )
            file = gr.File(
                label=label("teach_file_label"), file_types=[".csv", ".tsv", ".jsonl"], height=160, elem_id="teach-file"
            )
            buttons = RunButtons("teach_start")
            figures = gr.HTML(elem_id="teach-figures", elem_classes="figures-box")
        with gr.Column():
            picture = gr.Image(
                label=label("confusion_label"),
                visible=False,
                interactive=False,
                height=340,
                buttons=["download", "fullscreen"],  # sharing would send it to another host
                elem_id="confusion",
            )
            download = gr.DownloadButton(label("teach_download"), visible=False, size="sm", elem_id="teach-download")
            text = gr.Textbox(
                lines=3,
                label=label("teach_try_label"),
                placeholder=label("teach_try_placeholder"),
                elem_id="teach-text",
            )
            try_it = gr.Button(label("classify"), elem_id="teach-try")
            result = gr.HTML(elem_id="teach-result")
            back = gr.File(
                label=label("teach_back_label"), file_types=[".safetensors"], height=160, elem_id="teach-back"
            )

    def train(request: gr.Request, run: Run, lines: str, file: str | None) -> Iterator[tuple]:
        # Gradio has copied what was yielded from the folder by the time that the next line runs.
        with tempfile.TemporaryDirectory(prefix="taught-") as folder:
            yield from teach_in(Path(folder), request, run, lines, file)

    def teach_in(folder: Path, request: gr.Request, run: Run, lines: str, file: str | None) -> Iterator[tuple]:
        nothing = [gr.skip()] * 3
        begin = perf_counter()
        try:
            backbone = background.get()
            rows = _rows(lines or "", file)
            labels, truth = numbered(rows)
            read = []
            for chunk in _reader(backbone).chunks([row.text for row in rows], run.go_on):
                read.append(chunk.features)
                yield chips([say(request, "texts_done", done=sum(map(len, read)), total=len(rows))]), *nothing
        except UserError as error:
            yield error_line(error, request), *nothing
            return
        except Stopped:
            yield chips([say(request, "ended_stopped")]), *nothing
            return
        picture = folder / PICTURE_NAME
        learned = learn_apart(np.concatenate(read), truth, labels, picture, run.stop_asked.is_set)
        if learned is None:
            yield chips([say(request, "ended_stopped")]), *nothing
            return
        made = Taught(labels, learned, backbone.artifact.fingerprint)
        (folder / TAUGHT_FILE).write_bytes(to_bytes(made))
        figures = [
            say(request, "teach_accuracy", accuracy=f"{100 * learned.accuracy:.0f}"),
            say(request, "teach_examples", labels=len(labels), examples=len(rows)),
            say(request, "teach_seconds", seconds=f"{perf_counter() - begin:.1f}"),
        ]
        files = [gr.update(value=str(path), visible=True) for path in (picture, folder / TAUGHT_FILE)]
        yield chips(figures), *files, made

    def classify(request: gr.Request, text: str, made: Taught | None) -> str:
        try:
            backbone = background.get()
            if made is None:
                raise UserError("Teach a classifier first, or load one.", key="teach_first")
            text = replace_surrogates(text or "")
            require_texts([text], _MOST_CHARACTERS)
            found = TaughtClassifier(_reader(backbone), made).classify([text])[0]
            return windows_notice(found.windows, request) + decision(found, None, request)
        except UserError as error:
            return error_line(error, request)

    def load(request: gr.Request, path: str) -> tuple:
        try:
            made = from_file(Path(path), background.get().artifact)
        except UserError as error:
            return gr.skip(), error_line(error, request)
        return made, chips([say(request, "teach_loaded", labels=", ".join(made.labels[:10]))])

    buttons.connect([buttons.start.click], train, [lines, file], [figures, picture, download, taught])
    privately = {"show_progress": "hidden", "api_visibility": "private", **CONCURRENCY}
    gr.on([try_it.click, text.submit], classify, [text, taught], result, **privately)
    back.upload(load, back, [taught, result], **privately)

    def teach_texts(examples: list[list[str]], texts: list[str]) -> dict:
        """A classifier from labelled examples, and what it says of other texts.

        Args:
            examples: pairs of label and text
            texts: to classify
        """
        try:
            backbone = background.get()
            require_at_most(len(examples), _MOST_EXAMPLES)
            rows = [_pair(pair, number) for number, pair in enumerate(examples, 1)]
            labels, truth = numbered(rows)
            reader = _reader(backbone)
            features = reader.read([row.text for row in rows])
            with tempfile.TemporaryDirectory() as folder:
                learned = learn_apart(features, truth, labels, Path(folder) / PICTURE_NAME, stopped=lambda: False)
            made = Taught(labels, learned, backbone.artifact.fingerprint)
            found = TaughtClassifier(reader, made).classify(texts) if texts else []
        except UserError as error:
            raise gr.Error(str(error)) from error
        return {
            "labels": labels,
            "cross_validated_accuracy": learned.accuracy,
            "results": [
                {
                    "label": one.label,
                    "probabilities": one.probabilities,
                    "tokens": one.tokens,
                    "windows": one.windows,
                }
                for one in found
            ],
        }

    gr.api(teach_texts, api_name="teach", **CONCURRENCY)


def _reader(backbone: Backbone) -> FeatureReader:
    return FeatureReader(backbone.encoder, WindowReader.of(backbone.artifact, backbone.tokenizer))


def _rows(lines: str, file: str | None) -> list[LabelledText]:
    """
    Raises:
        UserError: a line without a label, too many examples, a file that can't be read.
    """
    if file:
        rows = read_text_file(Path(file), labelled=True)
    else:
        rows = [_line(line, number) for number, line in enumerate(lines.split("\n"), 1) if line.strip()]
    require_at_most(len(rows), _MOST_EXAMPLES)
    return rows


def _line(line: str, number: int) -> LabelledText:
    name, *text = (part.strip() for part in re.split("[:：]", line, maxsplit=1))
    if not name or text in ([], [""]):
        raise UserError(
            f'Line {number} is not "label: text".',
            key="teach_line_wrong",
            line=number,
        )
    return LabelledText(text[0], name, number)


def _pair(pair: Sequence[str], number: int) -> LabelledText:
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        raise UserError(f"Example {number} is not a pair of label and text (two strings).")
    return LabelledText(pair[1], pair[0], number)
