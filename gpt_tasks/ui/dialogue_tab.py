"""Tab: dialogue."""

from collections.abc import Iterator

import gradio as gr

from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.errors import UserError
from gpt_tasks.tasks import dialogue
from gpt_tasks.tasks.prompt import room_for_prompt
from gpt_tasks.ui.controls import RunButtons, examples
from gpt_tasks.ui.settings import read_settings, settings_panel
from gpt_tasks.ui.streaming import error_line, stream
from gpt_tasks.ui.texts import label

_EXAMPLES = [
    "What is the capital of France?",
    "Explain photosynthesis to a child in three sentences.",
    "Give me five names for a black cat.",
]


def build(background: BackboneInBackground) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=3):
            chat = gr.Chatbot(
                [],
                label=label("chat_label"),
                placeholder=label("chat_placeholder"),
                height="60vh",
                min_height=320,
                buttons=["copy"],
                elem_id="chat",
                layout="bubble",
            )
            figures = gr.HTML(elem_id="dialogue-figures", elem_classes="figures-box")
            message = gr.Textbox(
                show_label=False,
                label=label("message_label"),
                lines=1,
                max_lines=6,
                placeholder=label("message_placeholder"),
                elem_id="message",
            )
            with gr.Row():
                buttons = RunButtons("send")
                clear = gr.Button(label("clear"))
        with gr.Column(scale=2):
            examples([[example] for example in _EXAMPLES], [message])
            system = gr.Textbox(
                dialogue.SYSTEM,
                lines=2,
                max_lines=6,
                label=label("system_label"),
                info=label("system_info"),
                elem_id="system",
            )
            settings = settings_panel(dialogue.SAMPLING)

    def answer(request: gr.Request, text: str, chat: list[dict], system: str, *values) -> Iterator[tuple]:
        messages = [{"role": turn["role"], "content": _text(turn["content"])} for turn in chat]
        messages.append({"role": "user", "content": text})
        try:
            backbone = background.get()
            options = read_settings(*values)
            room = room_for_prompt(backbone.context_length, options.max_new_tokens)
            prompt = dialogue.make_prompt(backbone.tokenizer, messages, room, system)
        except UserError as error:
            yield gr.skip(), gr.skip(), error_line(error, request)
            return
        events = backbone.write(
            prompt.ids,
            options.sampling,
            options.max_new_tokens,
            options.stop,
            conversation=(request.session_hash, dialogue.NAME),
        )
        yield "", messages, gr.skip()
        for written, figures in stream(events, prompt.notices, request):
            yield gr.skip(), [*messages, {"role": "assistant", "content": written}], figures

    buttons.connect(
        [buttons.start.click, message.submit], answer, [message, chat, system, *settings], [message, chat, figures]
    )
    clear.click(
        lambda: ([], ""), outputs=[chat, figures], queue=False, show_progress="hidden", api_visibility="private"
    )


def _text(content: str | list[dict]) -> str:
    """Gradio gives a message back as a list of parts."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
