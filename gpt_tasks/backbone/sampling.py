"""From logits to the next token."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt_tasks.errors import UserError

_ENOUGH = 1024  # top-p looks at so many tokens first: sorting a whole vocabulary takes milliseconds


@dataclass(frozen=True)
class SamplingOptions:
    """How to choose among the tokens that could come next. Applied in the order of the fields.

    Raises:
        UserError: a value out of its range.
    """

    repetition_penalty: float = 1.1
    """1: off. Logits of tokens that were there before are divided by it (multiplied, if negative)."""
    temperature: float = 0.7
    """0: always the likeliest token (greedy). Above 1: flatter than the model's own distribution."""
    top_k: int = 50
    """Only the k likeliest tokens; 0: off."""
    top_p: float = 0.95
    """Only the likeliest tokens that together have this probability; 1: off."""
    min_p: float = 0.0
    """Only tokens with at least this share of the likeliest one's probability; 0: off."""
    seed: int | None = None
    """The same seed and text give the same tokens; None: different every time."""

    def __post_init__(self) -> None:
        def require(holds: bool, name: str, range_: str) -> None:
            if not holds:
                raise UserError(
                    f"{name.replace('_', ' ')} must be {range_}, not {getattr(self, name)}.",
                    key="out_of_range",
                    name=name,
                    range=range_,
                    value=getattr(self, name),
                )

        require(0.1 <= self.repetition_penalty <= 10, "repetition_penalty", "between 0.1 and 10")
        require(0 <= self.temperature <= 10, "temperature", "between 0 and 10")
        require(self.top_k >= 0, "top_k", "0 (off) or more")
        require(0 < self.top_p <= 1, "top_p", "above 0, and at most 1 (off)")
        require(0 <= self.min_p < 1, "min_p", "0 (off) or more, and below 1")
        require(self.seed is None or 0 <= self.seed < 2**63, "seed", "between 0 and 2^63 - 1")


class Sampler:
    """Chooses tokens one after another, with a random generator of its own."""

    def __init__(self, options: SamplingOptions) -> None:
        self.options = options
        self._random = np.random.default_rng(options.seed)

    def choose(self, logits: np.ndarray, seen: Sequence[int]) -> int:
        """The next token.

        Args:
            logits: float32 [vocabulary]
            seen: the tokens so far, for the repetition penalty
        """
        logits = penalize_repetition(logits, seen, self.options.repetition_penalty)
        if self.options.temperature == 0:
            return int(logits.argmax())
        tokens, probabilities = candidates(logits, self.options)
        point = self._random.random()
        return int(tokens[min(np.searchsorted(probabilities.cumsum(), point, side="right"), len(tokens) - 1)])


def penalize_repetition(logits: np.ndarray, seen: Sequence[int], penalty: float) -> np.ndarray:
    """l / penalty if l > 0, else l · penalty, for every token seen before (Keskar et al. 2019, CTRL)."""
    if penalty == 1 or not len(seen):
        return logits
    logits = logits.copy()
    repeated = np.unique(seen)
    before = logits[repeated]
    logits[repeated] = np.where(before > 0, before / penalty, before * penalty)
    return logits


def candidates(logits: np.ndarray, options: SamplingOptions) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that stay in after temperature, top-k, top-p and min-p, and their probabilities, which sum to 1.

    Temperature: p = softmax(l / T). Top-k: Fan et al. 2018. Top-p: the smallest set whose probability
    reaches p (Holtzman et al. 2020). Min-p: Nguyen et al. 2024. Each works on what the one before
    left, as in transformers.
    """
    scaled = logits.astype(np.float64) / options.temperature
    tokens = _largest(scaled, options.top_k) if options.top_k else np.arange(len(scaled))
    weights = np.exp(scaled[tokens] - scaled.max())
    if options.top_p < 1:
        kept = _nucleus(weights, options.top_p)
        tokens, weights = tokens[kept], weights[kept]
    if options.min_p > 0:
        kept = weights >= options.min_p * weights.max()
        tokens, weights = tokens[kept], weights[kept]
    return tokens, weights / weights.sum()


def _nucleus(weights: np.ndarray, probability: float) -> np.ndarray:
    """Indices of the fewest largest weights that sum to this share of all."""
    needed = probability * weights.sum()
    order = _largest(weights, _ENOUGH)
    if weights[order].sum() < needed:
        order = _largest(weights, len(weights))
    before = weights[order].cumsum() - weights[order]
    return order[before < needed]


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest values (of all, if there are fewer), largest first."""
    if count < len(values):
        indices = np.argpartition(values, len(values) - count)[len(values) - count :]
    else:
        indices = np.arange(len(values))
    return indices[np.argsort(-values[indices], kind="stable")]
