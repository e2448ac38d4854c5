"""Which words pushed a decision: each is left out once, and what that changes is its weight (occlusion)."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpt_tasks.tasks.classification import TextClassifier

_MOST_TOKENS = 6000
"""that may be read for one text, all its shortened copies together: about two seconds"""
_MOST_PIECES = 64


@dataclass(frozen=True)
class WordWeight:
    """A piece of the text, usually a word, by its character offsets (end exclusive)."""

    start: int
    end: int
    weight: float
    """log p(label | text) - log p(label | text without it): above 0 it speaks for the label"""


def attribute(
    classifier: TextClassifier, text: str, label: str, between: Callable[[], None] = lambda: None
) -> list[WordWeight]:
    """Weights of all words; in long texts, of groups of neighbouring words.

    Only for texts that are read in one window: an empty list for longer ones.

    Args:
        between: called after every batch that is read; may raise to stop
    """
    index = classifier.task.labels.index(label)
    whole = classifier.score([text], between)[0]
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    if whole.windows > 1 or len(spans) < 2:
        return []
    pieces = max(2, min(_MOST_PIECES, _MOST_TOKENS // max(1, whole.tokens)))
    groups = [(spans[g[0]][0], spans[g[-1]][1]) for g in np.array_split(np.arange(len(spans)), min(pieces, len(spans)))]
    without = [f"{text[:start]}{text[end:]}".strip() or " " for start, end in groups]
    logits = np.stack([whole.logits, *(scored.logits for scored in classifier.score(without, between))])
    likelihood = np.log(classifier.probabilities(logits)[:, index] + 1e-9)
    return [
        WordWeight(start, end, float(likelihood[0] - rest))
        for (start, end), rest in zip(groups, likelihood[1:], strict=True)
    ]
