"""Dialogue: a chat of several turns, in the model's own chat template."""

from collections.abc import Sequence

from gpt_tasks.backbone.chat_template import Message
from gpt_tasks.backbone.sampling import SamplingOptions
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.tasks.prompt import Notice, Prompt, require_encodable, require_text, too_long

NAME = "dialogue"
SAMPLING = SamplingOptions(repetition_penalty=1.05, temperature=0.2, top_k=50, top_p=0.9)
_WHAT = "The message (with the system prompt)"
_KEPT_WHEN_DROPPING = 0.75
_TEMPLATE_TOKENS = 6  # what a template puts around a message, or before the answer

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What this model was tuned with; another is possible, but this is what it knows best."""


def make_prompt(tokenizer: Tokenizer, messages: Sequence[Message], room: int, system: str = SYSTEM) -> Prompt:
    """The chat so far, its last message being the user's. Of one that is too long the oldest turns
    are left out; the system prompt stays.

    Args:
        messages: user and assistant in turn
        system: what the assistant should be like
        room: the most tokens that the prompt may have

    Raises:
        UserError: an empty message, a last message that doesn't fit alone, a model without a template.
    """
    require_text(messages[-1]["content"], "The message", key="empty_message")
    # Templates differ in what they do without a system prompt; an empty one is then left to them.
    first = [Message(role="system", content=system)] if system.strip() else []
    alone = sum(len(message["content"]) for message in [*first, messages[-1]])
    require_encodable(alone, room, _WHAT, key="message_too_long")
    turns = _turns([message for message in messages if message["content"].strip()])
    dropped = _turns_to_drop(tokenizer, first, turns, room)
    while True:
        kept = [message for turn in turns[dropped:] for message in turn]
        ids = tokenizer.encode_chat([*first, *kept])
        if len(ids) <= room:
            break
        if dropped == len(turns) - 1:
            raise too_long(_WHAT, alone, room, key="message_too_long")
        dropped += 1
    notices = ()
    if dropped:
        message = f"The chat is longer than the model can read at once. Turns left out at its beginning: {dropped}."
        notices = (Notice(message, "turns_dropped", {"turns": dropped}),)
    return Prompt(ids, kept[-1]["content"], notices)


def _turns(messages: Sequence[Message]) -> list[list[Message]]:
    """A user's message and its answer go together."""
    turns: list[list[Message]] = []
    for message in messages:
        if message["role"] == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


def _turns_to_drop(tokenizer: Tokenizer, first: list[Message], turns: list[list[Message]], room: int) -> int:
    """How many of the oldest turns to leave out.

    Whenever a turn no longer fits, so many go that a quarter of the room is free again. Without that
    slack every further turn would push out another one, the beginning of the prompt would change
    each time, and nothing that the cache holds could be used.
    """
    sizes = [_size(tokenizer, turn) for turn in turns]
    base, begin, used = _size(tokenizer, first) + _TEMPLATE_TOKENS, 0, 0
    for index, size in enumerate(sizes):
        used += size
        if base + used > room:
            while begin < index and base + used > _KEPT_WHEN_DROPPING * room:
                used -= sizes[begin]
                begin += 1
    return begin


def _size(tokenizer: Tokenizer, messages: Sequence[Message]) -> int:
    """About how many tokens the messages have in the template."""
    return sum(len(tokenizer.encode(message["content"])) + _TEMPLATE_TOKENS for message in messages)
