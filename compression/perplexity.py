"""Perplexity: how surprised a model is by a text. The lower, the better it predicts it."""

from collections.abc import Callable, Sequence

import numpy as np

WINDOW = 1024
"""tokens; the windows don't overlap, and each is scored alone"""


def perplexity(read_all: Callable[[Sequence[int]], np.ndarray], ids: Sequence[int], window: int = WINDOW) -> float:
    """exp(mean of -log p(token | tokens before it in its window)); the first token of a window isn't scored.

    Args:
        read_all: token ids -> logits after each, float32 [tokens, vocabulary]
        ids: the text; a last window with a single token is left out

    Raises:
        ValueError: fewer than two tokens.
    """
    if len(ids) < 2:
        raise ValueError("a text of fewer than two tokens can't be scored")
    surprise, scored = 0.0, 0
    for begin in range(0, len(ids), window):
        piece = np.asarray(ids[begin : begin + window])
        if len(piece) < 2:
            break
        surprise -= log_probabilities(read_all(piece.tolist())[:-1])[np.arange(len(piece) - 1), piece[1:]].sum()
        scored += len(piece) - 1
    return float(np.exp(surprise / scored))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """log softmax over the last axis, in fp64: [..., vocabulary] -> the same"""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
