"""A text of any length as pieces that the encoder reads at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.tasks.plain_text import plain_text
from gpt_tasks.transformer.config import DecoderConfig

WINDOW = 192
"""Tokens of a text that are read at once: what the shipped adapters were trained with."""
OVERLAP = 32
"""Tokens that a window shares with the one before, as context."""

_AFTER = 16  # tokens kept free for what a task puts after a text


@dataclass(frozen=True)
class Windows:
    """A text's token ids, cut; each piece begins with the model's own beginning, where it has one."""

    pieces: tuple[tuple[int, ...], ...]
    tokens: int
    """of the whole text"""


class WindowReader:
    """Text -> windows of its `plain_text`, the same in training and in serving.

    Args:
        begin: the token that the model has seen at the beginning of every text, if it has one
    """

    def __init__(self, tokenizer: Tokenizer, begin: int | None, window: int = WINDOW) -> None:
        self._tokenizer = tokenizer
        self._begin = () if begin is None else (begin,)
        self._window = window

    @classmethod
    def of(cls, artifact: Artifact, tokenizer: Tokenizer) -> "WindowReader":
        return cls(tokenizer, artifact.hugging_face_config.get("bos_token_id"), window_size(artifact.config))

    def read(self, text: str) -> Windows:
        """A text without any token gets one window that has the beginning alone (or token 0)."""
        ids = self._tokenizer.encode(plain_text(text))
        pieces = [(*self._begin, *piece) for piece in cut(ids, self._window)]
        return Windows(tuple(piece or (0,) for piece in pieces), len(ids))

    def tokens(self, text: str) -> list[int]:
        """The ids of a text as it is, without a beginning."""
        return self._tokenizer.encode(text)

    def first(self, text: str) -> list[int]:
        """The first window alone: what training reads of a text."""
        return list(self.read(text).pieces[0])


def window_size(config: DecoderConfig) -> int:
    """WINDOW, or what a model with a short context can read at once."""
    return max(1, min(WINDOW, config.context_length - 1 - _AFTER))


def cut(ids: Sequence[int], window: int) -> list[Sequence[int]]:
    """Pieces of at most `window` that overlap; the last one is as long as the others, so that it isn't a crumb."""
    if len(ids) <= window:
        return [ids]
    overlap = min(OVERLAP, window // 2)
    begins = [*range(0, len(ids) - window, window - overlap), len(ids) - window]
    return [ids[begin : begin + window] for begin in begins]
