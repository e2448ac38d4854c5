"""The text that a student learns from, cut into windows of tokens."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError

_DEV_WINDOWS = 16
_DEV_PART = 20  # at most one window in so many is held out
_PIECE = 1_000_000  # characters encoded at once


@dataclass(frozen=True)
class Windows:
    """Token ids, int64 [windows, length] each."""

    train: Tensor
    dev: Tensor

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for part in (self.train, self.dev):
            digest.update(part.numpy().tobytes())
        return digest.hexdigest()


def cut_windows(tokenizer: Tokenizer, texts: Sequence[str], length: int, tokens: int | None, seed: int = 0) -> Windows:
    """Windows that don't overlap, drawn evenly from all texts. A text's last, shorter piece is left out.

    Args:
        tokens: at most so many to train on; None: all there are

    Raises:
        UserError: too little text for a window to train on and one to measure on.
    """
    rows: list[list[int]] = []
    for text in texts:
        ids: list[int] = []
        for begin in range(0, len(text), _PIECE):
            ids += tokenizer.encode(text[begin : begin + _PIECE])
        rows += [ids[begin : begin + length] for begin in range(0, len(ids) - length + 1, length)]
    if len(rows) < 2:
        raise UserError(
            f"The text gives {len(rows)} windows of {length} tokens, and at least 2 are needed. Give more text, or a "
            "smaller --window."
        )
    random.Random(seed).shuffle(rows)
    held_out = min(_DEV_WINDOWS, max(1, len(rows) // _DEV_PART))
    wanted = None if tokens is None else max(1, tokens // length)
    return Windows(torch.tensor(rows[held_out:][:wanted]), torch.tensor(rows[:held_out]))
