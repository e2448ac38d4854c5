"""The tasks that there are."""

from types import ModuleType

from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.tasks import dialogue, open_ended, topic_writing

WRITING: dict[str, ModuleType] = {task.NAME: task for task in (open_ended, topic_writing, dialogue)}
"""Each has a NAME, SAMPLING defaults and `make_prompt`."""


def switched_off(tokenizer: Tokenizer) -> dict[str, UserError]:
    """The tasks that a model is not made for, by what its tokenizer says, and why."""
    try:
        tokenizer.require_chat_template()
    except UserError as error:
        return {dialogue.NAME: error}
    return {}


def writing_task(name: str) -> ModuleType:
    """
    Raises:
        UserError: no such task.
    """
    if name not in WRITING:
        raise UserError(
            f"The task {name!r} is unknown; there are: {', '.join(WRITING)}.", key="unknown_task", task=name
        )
    return WRITING[name]
