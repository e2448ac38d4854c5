"""Tab: continue a text."""

from collections.abc import Iterator

import gradio as gr

from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.tasks import open_ended
from gpt_tasks.tasks.prompt import Prompt
from gpt_tasks.ui.controls import Run, RunButtons, examples, result_box
from gpt_tasks.ui.settings import settings_panel
from gpt_tasks.ui.texts import label
from gpt_tasks.ui.writing import write

_EXAMPLES = [
    "Once upon a time, in a small village by the sea,",
    "The three most important things to know about bread are",
    "def fibonacci(n):\n    ",
    "Dear Sir or Madam,\n\nI am writing to you because",
]


def build(background: BackboneInBackground) -> None:
    with gr.Row(equal_height=False):
        with gr.Column():
            text = gr.Textbox(
                lines=12,
                max_lines=20,
                label=label("text_label"),
                placeholder=label("text_placeholder"),
                elem_id="open-ended-text",
                autofocus=True,
            )
            buttons = RunButtons("write")
        with gr.Column():
            result = result_box("continuation_label", "continuation_placeholder", 12, 20, "open-ended-result")
            figures = gr.HTML(elem_id="open-ended-figures", elem_classes="figures-box")
            append = gr.Button(label("append"), size="sm")
    examples([[example] for example in _EXAMPLES], [text])
    settings = settings_panel(open_ended.SAMPLING)

    def continue_text(request: gr.Request, run: Run, text: str, *values) -> Iterator[tuple]:
        def make_prompt(tokenizer: Tokenizer, room: int) -> Prompt:
            return open_ended.make_prompt(tokenizer, text or "", room)

        return write(background, open_ended.NAME, make_prompt, values, request, run)

    buttons.connect([buttons.start.click], continue_text, [text, *settings], [result, figures])
    buttons.instead(append.click, lambda text, result: (text + result, ""), [text, result], [text, result])
