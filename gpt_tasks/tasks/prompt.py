"""A task's request as what the model reads, fitted into its context."""

from dataclasses import dataclass

from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError

# More characters than any tokenizer packs into a token on average. Longer texts are cut before they
# are encoded: encoding ten million characters, to keep a few thousand tokens, takes seconds.
_CHARACTERS_A_TOKEN = 12


@dataclass(frozen=True)
class Notice:
    """Something that a person should know about how their request was handled."""

    message: str
    key: str
    """the same message in the page's translations"""
    values: dict[str, object]


@dataclass(frozen=True)
class Prompt:
    ids: list[int]
    text: str
    """what the model reads, for people to see"""
    notices: tuple[Notice, ...] = ()


def room_for_prompt(context_length: int, max_new_tokens: int) -> int:
    """How many tokens a prompt may have.

    Raises:
        UserError: a length below 1, or one that leaves no room in the context.
    """
    if not 1 <= max_new_tokens < context_length:
        raise UserError(
            f"The length must be between 1 and {context_length - 1} new tokens, not {max_new_tokens}.",
            key="length_out_of_range",
            most=context_length - 1,
            value=max_new_tokens,
        )
    return context_length - max_new_tokens


def require_text(text: str, what: str, key: str) -> None:
    """
    Raises:
        UserError: nothing but white space.
    """
    if not text.strip():
        raise UserError(f"{what} is empty. Write something first.", key=key)


def last_tokens(tokenizer: Tokenizer, text: str, room: int) -> tuple[list[int], str, tuple[Notice, ...]]:
    """A text's ids; of one that doesn't fit, the last ones, with a notice of what was left out.

    Raises:
        UserError: characters only that the model has no tokens for.
    """
    tail = text[-room * _CHARACTERS_A_TOKEN :]
    ids = tokenizer.encode(tail, begin=True)
    if not ids:
        raise UserError(
            "The text has no character that the model knows. Write something else.", key="unknown_characters"
        )
    if len(ids) <= room and len(tail) == len(text):
        return ids, text, ()
    ids = ids[-room:]
    kept = tokenizer.decode(ids)
    dropped = max(len(text) - len(kept), 1)
    notice = Notice(
        f"The text is longer than the model can read at once. Characters left out at its beginning: {dropped:,}.",
        "beginning_dropped",
        {"characters": dropped},
    )
    return ids, kept, (notice,)


def require_encodable(characters: int, room: int, what: str, key: str) -> None:
    """
    Raises:
        UserError: a text of so many characters that it can't fit, seen without encoding it.
    """
    if characters > room * _CHARACTERS_A_TOKEN:
        raise too_long(what, characters, room, key)


def too_long(what: str, characters: int, room: int, key: str) -> UserError:
    return UserError(
        f"{what} is too long: {characters:,} characters, where the model has room for {room:,} tokens "
        f"(about {3 * room:,} characters). Shorten it, or ask for fewer new tokens.",
        key=key,
        characters=characters,
        room=room,
        about=3 * room,
    )
