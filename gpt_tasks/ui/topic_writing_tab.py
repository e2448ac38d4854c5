"""Tab: write on a topic."""

from collections.abc import Iterator

import gradio as gr

from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.tasks import topic_writing
from gpt_tasks.tasks.prompt import Prompt
from gpt_tasks.ui.controls import QUIETLY, Run, RunButtons, examples, result_box
from gpt_tasks.ui.settings import settings_panel
from gpt_tasks.ui.texts import label, say
from gpt_tasks.ui.writing import write

_EXAMPLES = [
    ["an old lighthouse", "story", "storm, lamp, secret"],
    ["a cat that was elected mayor", "news_item", "fish, speech"],
    ["the first snow", "poem", ""],
    ["a pocket umbrella", "product_description", "light, wind"],
    ["a parcel that has not arrived", "email", "order, refund"],
]


def build(background: BackboneInBackground, tab: gr.Tab) -> None:
    with gr.Row(equal_height=False):
        with gr.Column():
            topic = gr.Textbox(
                label=label("topic_label"), placeholder=label("topic_placeholder"), max_lines=4, elem_id="topic"
            )
            with gr.Row():
                form = gr.Dropdown(
                    _named_forms(None), value="story", label=label("form_label"), min_width=200, elem_id="form"
                )
                keywords = gr.Textbox(
                    label=label("keywords_label"),
                    placeholder=label("keywords_placeholder"),
                    max_lines=2,
                    min_width=200,
                    elem_id="keywords",
                )
            prompt_box = gr.Textbox(
                lines=3, max_lines=8, label=label("request_label"), info=label("request_info"), elem_id="topic-prompt"
            )
            buttons = RunButtons("write")
        with gr.Column():
            result = result_box("result_label", "result_placeholder", 16, 22, "topic-result")
            figures = gr.HTML(elem_id="topic-figures", elem_classes="figures-box")
    examples(_EXAMPLES, [topic, form, keywords])
    settings = settings_panel(topic_writing.SAMPLING)

    def write_on_topic(request: gr.Request, run: Run, topic: str, instruction: str, *values) -> Iterator[tuple]:
        def make_prompt(tokenizer: Tokenizer, room: int) -> Prompt:
            if not (topic or "").strip() and not (instruction or "").strip():
                raise UserError("Name a topic first.", key="empty_topic")
            return topic_writing.make_prompt(tokenizer, instruction or "", room)

        return write(background, topic_writing.NAME, make_prompt, values, request, run)

    gr.on([topic.change, form.change, keywords.change], _instruction, [topic, form, keywords], prompt_box, **QUIETLY)
    triggers = [buttons.start.click, topic.submit]
    buttons.connect(triggers, write_on_topic, [topic, prompt_box, *settings], [result, figures])
    # The browser translates labels, but not the names of choices. (Not in the page's `load`: Gradio's
    # front end fails when that changes a tab that isn't open.)
    tab.select(_localise_forms, None, form, **QUIETLY)


def _localise_forms(request: gr.Request) -> dict:
    return gr.update(choices=_named_forms(request))


def _named_forms(request: gr.Request | None) -> list[tuple[str, str]]:
    return [(say(request, f"form_{form}"), form) for form in topic_writing.FORMS]


def _instruction(topic: str, form: str, keywords: str) -> str:
    return topic_writing.instruction(topic, form, keywords.replace("，", ",").split(",")) if topic.strip() else ""
