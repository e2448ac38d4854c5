"""What every writing tab does when its start button is pressed."""

from collections.abc import Callable, Iterator

import gradio as gr

from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.prompt import Prompt, room_for_prompt
from gpt_tasks.ui.controls import Run
from gpt_tasks.ui.settings import read_settings
from gpt_tasks.ui.streaming import error_line, stream


def write(
    background: BackboneInBackground,
    task: str,
    make_prompt: Callable[[Tokenizer, int], Prompt],
    settings: tuple,
    request: gr.Request,
    run: Run,
) -> Iterator[tuple[str | dict, str]]:
    """The text so far and its figures as HTML, again and again, beginning with an empty text.

    After a mistake: once, `gr.skip()` instead of a text, and the error in the figures' place.

    Args:
        task: names the visitor's conversation, together with their session
        make_prompt: tokenizer, room in tokens -> prompt
        settings: the values of `settings_panel`
    """
    try:
        backbone = background.get()
        options = read_settings(*settings)
        room = room_for_prompt(backbone.context_length, options.max_new_tokens)
        prompt = make_prompt(backbone.tokenizer, room)
    except UserError as error:
        yield gr.skip(), error_line(error, request)
        return
    conversation = (request.session_hash, task)
    events = backbone.write(prompt.ids, options.sampling, options.max_new_tokens, options.stop, conversation)
    yield "", ""
    yield from stream(events, prompt.notices, request, run)
