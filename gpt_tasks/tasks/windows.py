"""A text of any length as pieces that the encoder reads at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.tokenizer import Tokenizer

WINDOW = 192
"""Tokens of a text that are read at once: what the shipped adapters were trained with."""
OVERLAP = 32
"""Tokens that a window shares with the one before, as context."""


@dataclass(frozen=True)
class Windows:
    """A text's token ids, cut; each piece begins with the model's own beginning, where it has one."""

    pieces: tuple[tuple[int, ...], ...]
    tokens: int
    """of the whole text"""


class WindowReader:
    """Text -> windows, the same in training and in serving.

    Args:
        begin: the token that the model has seen at the beginning of every text, if it has one
    """

    def __init__(self, tokenizer: Tokenizer, begin: int | None, window: int = WINDOW) -> None:
        self._tokenizer = tokenizer
        self._begin = () if begin is None else (begin,)
        self._window = window

    @classmethod
    def of(cls, artifact: Artifact, tokenizer: Tokenizer) -> "WindowReader":
        window = min(WINDOW, artifact.config.context_length - 1)
        return cls(tokenizer, artifact.hugging_face_config.get("bos_token_id"), window)

    def read(self, text: str) -> Windows:
        """A text without any token gets one window that has the beginning alone (or token 0)."""
        ids = self._tokenizer.encode(text)
        pieces = [(*self._begin, *piece) for piece in cut(ids, self._window)]
        return Windows(tuple(piece or (0,) for piece in pieces), len(ids))

    def first(self, text: str) -> list[int]:
        """The first window alone: what training reads of a text."""
        return list(self.read(text).pieces[0])


def cut(ids: Sequence[int], window: int) -> list[Sequence[int]]:
    """Pieces of at most `window` that overlap; the last one is as long as the others, so that it isn't a crumb."""
    if len(ids) <= window:
        return [ids]
    overlap = min(OVERLAP, window // 2)
    begins = [*range(0, len(ids) - window, window - overlap), len(ids) - window]
    return [ids[begin : begin + window] for begin in begins]
