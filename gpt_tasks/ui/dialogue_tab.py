"""Tab: dialogue."""

from collections.abc import Iterator
from html import escape, unescape

import gradio as gr

from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.tasks import dialogue
from gpt_tasks.tasks.prompt import Prompt
from gpt_tasks.ui.controls import Run, RunButtons, examples
from gpt_tasks.ui.settings import settings_panel
from gpt_tasks.ui.texts import label
from gpt_tasks.ui.writing import write

_EXAMPLES = [
    "What can I cook with eggs, rice and tomatoes?",
    "Explain photosynthesis to a child in three sentences.",
    "Give me five names for a black cat.",
]


def build(background: BackboneInBackground) -> None:
    # Plain text: what a visitor or the model writes must not become markup, or load a picture from elsewhere.
    chat = gr.Chatbot(
        [],
        label=label("chat_label"),
        show_label=False,
        placeholder=label("chat_placeholder"),
        height="52vh",
        min_height=300,
        buttons=["copy"],
        render_markdown=False,
        latex_delimiters=[],
        elem_id="chat",
        layout="bubble",
    )
    figures = gr.HTML(elem_id="dialogue-figures", elem_classes="figures-box")
    message = gr.Textbox(
        label=label("message_label"),
        lines=1,
        max_lines=6,
        placeholder=label("message_placeholder"),
        elem_id="message",
    )
    buttons = RunButtons("send")
    examples([[example] for example in _EXAMPLES], [message])
    system = gr.Textbox(
        dialogue.SYSTEM, lines=2, max_lines=6, label=label("system_label"), info=label("system_info"), elem_id="system"
    )
    settings = settings_panel(dialogue.SAMPLING)

    def answer(request: gr.Request, run: Run, text: str, chat: list[dict], system: str, *values) -> Iterator[tuple]:
        messages = [{"role": turn["role"], "content": _text(turn["content"])} for turn in chat]
        messages.append({"role": "user", "content": text or ""})

        def make_prompt(tokenizer: Tokenizer, room: int) -> Prompt:
            return dialogue.make_prompt(tokenizer, messages, room, system or "")

        message_box = ""
        for written, figures in write(background, dialogue.NAME, make_prompt, values, request, run):
            if not isinstance(written, str):  # a mistake: the message stays where it is, to be put right
                yield gr.skip(), gr.skip(), figures
            else:
                answered = [{"role": "assistant", "content": written}] if written else []
                yield message_box, _shown([*messages, *answered]), figures
                message_box = gr.skip()  # emptied once: the visitor may be typing the next message

    triggers = [buttons.start.click, message.submit]
    buttons.connect(triggers, answer, [message, chat, system, *settings], [message, chat, figures])
    buttons.instead(chat.clear, lambda: ([], ""), [], [chat, figures])


def _shown(messages: list[dict]) -> list[dict]:
    """For the chat component, which takes text for HTML even where it is told not to render Markdown."""
    return [{**message, "content": escape(message["content"], quote=False)} for message in messages]


def _text(content: str | list[dict]) -> str:
    """A message's text as the chat component gives it back: escaped, and perhaps as a list of parts."""
    whole = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return unescape(whole)
