"""Tab: continue a text."""

from collections.abc import Iterator

import gradio as gr

from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.errors import UserError
from gpt_tasks.tasks import open_ended
from gpt_tasks.tasks.prompt import room_for_prompt
from gpt_tasks.ui.controls import Run, RunButtons, examples
from gpt_tasks.ui.settings import read_settings, settings_panel
from gpt_tasks.ui.streaming import error_line, stream
from gpt_tasks.ui.texts import label

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
            # Not read-only: Gradio disables a read-only box, and the keyboard couldn't reach it.
            result = gr.Textbox(
                lines=12,
                max_lines=20,
                label=label("continuation_label"),
                placeholder=label("continuation_placeholder"),
                buttons=["copy"],
                interactive=True,
                elem_id="open-ended-result",
            )
            figures = gr.HTML(elem_id="open-ended-figures", elem_classes="figures-box")
            append = gr.Button(label("append"), size="sm")
    examples([[example] for example in _EXAMPLES], [text])
    settings = settings_panel(open_ended.SAMPLING)

    def write(request: gr.Request, run: Run, text: str, *values) -> Iterator[tuple[str, str]]:
        try:
            backbone = background.get()
            options = read_settings(*values)
            room = room_for_prompt(backbone.context_length, options.max_new_tokens)
            prompt = open_ended.make_prompt(backbone.tokenizer, text or "", room)
        except UserError as error:
            yield gr.skip(), error_line(error, request)
            return
        conversation = (request.session_hash, open_ended.NAME)
        events = backbone.write(prompt.ids, options.sampling, options.max_new_tokens, options.stop, conversation)
        yield "", ""
        yield from stream(events, prompt.notices, request, run)

    buttons.connect([buttons.start.click], write, [text, *settings], [result, figures])
    buttons.instead(append.click, lambda text, result: (text + result, ""), [text, result], [text, result])
