"""How far a compressed model is from the one it was made of: graded figures, not a yes or no by tolerance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

WINDOW = 1024
"""tokens; the text is cut into windows that don't overlap, and each is scored alone"""
CHUNK = 256
"""tokens read at once; their logits are what takes memory here"""
GREEDY_TOKENS = 64


class Reader(Protocol):
    """Both `OrtEngine` and `TorchEngine` are one."""

    def new_cache(self) -> object: ...

    def read(self, ids: Sequence[int], cache: object, all_logits: bool = False) -> np.ndarray: ...


@dataclass(frozen=True)
class Parity:
    perplexity: float
    """exp(mean of -log p(token | tokens before it in its window)); the first token of a window isn't scored"""
    reference_perplexity: float
    ratio: float
    """perplexity / reference_perplexity"""
    top1_agreement: float
    """share of positions where both find the same token likeliest"""
    mean_kl: float
    """mean of KL(reference ‖ model) over the positions, in nats"""
    greedy_agreement: float
    """how much of 64 greedy tokens is the same up to the first difference, as the mean over the prompts"""


def compare(
    reference: Reader, model: Reader, ids: Sequence[int], prompts: Sequence[Sequence[int]], window: int = WINDOW
) -> Parity:
    """
    Args:
        ids: a text
        window: tokens
        prompts: beginnings of texts, as token ids; without any, `greedy_agreement` is NaN

    Raises:
        ValueError: a text of fewer than two tokens.
    """
    if len(ids) < 2:
        raise ValueError("a text of fewer than two tokens can't be scored")
    surprise = np.zeros(2)
    same, divergence, scored = 0, 0.0, 0
    for (expected, actual), following in _chunks((reference, model), ids, window):
        positions = np.arange(len(following))
        expected, actual = log_probabilities(expected), log_probabilities(actual)
        surprise -= [expected[positions, following].sum(), actual[positions, following].sum()]
        same += int((expected.argmax(-1) == actual.argmax(-1)).sum())
        divergence += float((np.exp(expected) * (expected - actual)).sum())
        scored += len(following)
    of_reference, of_model = np.exp(surprise / scored)
    agreement = [_common_beginning(greedy(reference, prompt), greedy(model, prompt)) for prompt in prompts]
    return Parity(
        float(of_model),
        float(of_reference),
        float(of_model / of_reference),
        same / scored,
        divergence / scored,
        float(np.mean(agreement)) if agreement else float("nan"),
    )


class Divergence:
    """Mean KL(reference ‖ model) over a few sequences, for many models against one reference, which is read once.

    In fp32, and with the reference's probabilities kept (4 bytes · tokens · vocabulary): for searches, where
    `compare` would take the most time.

    Args:
        sequences: token ids, each read from an empty cache
    """

    def __init__(self, reference: Reader, sequences: Sequence[Sequence[int]]) -> None:
        self._sequences = sequences
        self._expected = [self._log_probabilities(reference, ids) for ids in sequences]

    def of(self, model: Reader) -> float:
        """In nats."""
        total, tokens = 0.0, 0
        for expected, ids in zip(self._expected, self._sequences, strict=True):
            actual = self._log_probabilities(model, ids)
            np.subtract(expected, actual, out=actual)
            actual *= np.exp(expected)
            total += float(actual.sum(dtype=np.float64))
            tokens += len(ids)
        return total / tokens

    @staticmethod
    def _log_probabilities(model: Reader, ids: Sequence[int]) -> np.ndarray:
        """[tokens, vocabulary]"""
        logits = model.read(ids, model.new_cache(), all_logits=True)
        logits = logits - logits.max(axis=-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return logits


def greedy(model: Reader, prompt: Sequence[int], tokens: int = GREEDY_TOKENS) -> list[int]:
    """The likeliest token, again and again."""
    cache = model.new_cache()
    logits = model.read(prompt, cache)
    written = []
    for _ in range(tokens):
        written.append(int(logits[-1].argmax()))
        if len(written) < tokens:
            logits = model.read(written[-1:], cache)
    return written


def _chunks(models: Sequence[Reader], ids: Sequence[int], size: int) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Logits of every model for a few positions, and the tokens that followed there."""
    for begin in range(0, len(ids), size):
        window = list(ids[begin : begin + size])
        caches = [model.new_cache() for model in models]
        for at in range(0, len(window) - 1, CHUNK):  # the last token of a window is only predicted, never read
            piece = window[at : min(at + CHUNK, len(window) - 1)]
            logits = [model.read(piece, cache, all_logits=True) for model, cache in zip(models, caches, strict=True)]
            yield logits, np.array(window[at + 1 : at + 1 + len(piece)])


def _common_beginning(first: Sequence[int], second: Sequence[int]) -> float:
    different = (i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
    return next(different, len(first)) / len(first)


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """log softmax over the last axis, in fp64: [..., vocabulary] -> the same"""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
