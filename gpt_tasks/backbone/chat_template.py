"""A chat as the text that the model was trained on, by the model's own template (Jinja2)."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gpt_tasks.errors import UserError


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


class ChatTemplate:
    """A template from a model's folder, rendered as transformers does.

    Templates come with models from anywhere, hence the sandbox: they can't reach Python's insides.

    Args:
        source: the Jinja2 text
        special_tokens: such as `bos_token`, which templates refer to

    Raises:
        UserError: not a Jinja2 template.
    """

    def __init__(self, source: str, special_tokens: dict[str, str] | None = None) -> None:
        self.source = source
        self._special_tokens = special_tokens or {}
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise_exception
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise UserError(f"The model's chat template can't be read: {error}.") from error

    def render(self, messages: Sequence[Message]) -> str:
        """The whole chat, up to where the assistant's answer begins.

        Raises:
            UserError: the template refuses these messages.
        """
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._special_tokens)
        except TemplateError as error:
            raise UserError(f"The model's chat template refuses this chat: {error}.") from error


def _raise_exception(message: str) -> None:
    raise TemplateError(message)
