"""Dialogue: a chat of several turns, in the model's own chat template."""

from collections.abc import Sequence

from gpt_tasks.backbone.chat_template import Message
from gpt_tasks.backbone.sampling import SamplingOptions
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.tasks.prompt import Notice, Prompt, require_encodable, require_text, too_long

NAME = "dialogue"
SAMPLING = SamplingOptions(repetition_penalty=1.05, temperature=0.2, top_k=50, top_p=0.9)
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
    require_encodable(system + messages[-1]["content"], room, "The message", key="message_too_long")
    turns = [message for message in messages if message["content"].strip()]
    dropped = 0
    while True:
        ids = tokenizer.encode_chat([*first, *turns]) if _may_fit(turns, room) else None
        if ids is not None and len(ids) <= room:
            break
        if len(turns) == 1:
            raise too_long("The message", len(turns[0]["content"]), room, key="message_too_long")
        # A user's message goes with its answer, so that the chat begins with the user again.
        end = next((i for i in range(1, len(turns)) if turns[i]["role"] == "user"), len(turns) - 1)
        turns, dropped = turns[end:], dropped + 1
    notices = ()
    if dropped:
        notices = (
            Notice(
                f"The chat is longer than the model can read at once: its first {dropped} turns were left out.",
                "turns_dropped",
                {"turns": dropped},
            ),
        )
    return Prompt(ids, turns[-1]["content"], notices)


def _may_fit(turns: Sequence[Message], room: int) -> bool:
    return sum(len(message["content"]) for message in turns) <= room * 12
