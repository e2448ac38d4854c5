"""A task's head in numpy: pooling and a linear layer on the encoder's hidden states."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LinearHead:
    """logits = W · pool(h_1 ... h_n) + b, as `training.objectives.Classifier` trained it."""

    pooling: str
    """mean, last or attention (see `training.pooling`)"""
    weight: np.ndarray
    """[labels, hidden]"""
    bias: np.ndarray
    """[labels]"""
    query: np.ndarray | None = None
    """[hidden], of attention pooling"""

    def features(self, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """hidden: [rows, tokens, hidden], mask: [rows, tokens] of 0 and 1 -> [rows, hidden]"""
        return pool(self.pooling, hidden, mask, self.query)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """[rows, hidden] -> [rows, labels]"""
        return features @ self.weight.T + self.bias

    def tensors(self) -> dict[str, np.ndarray]:
        """For a file."""
        query = {} if self.query is None else {"query": self.query}
        return {"weight": self.weight, "bias": self.bias, **query}

    @classmethod
    def from_tensors(cls, pooling: str, tensors: Mapping[str, np.ndarray]) -> "LinearHead":
        """
        Raises:
            KeyError: a tensor is missing.
        """
        query = tensors["query"] if pooling == "attention" else None
        return cls(pooling, tensors["weight"], tensors["bias"], query)


def pool(kind: str, hidden: np.ndarray, mask: np.ndarray, query: np.ndarray | None = None) -> np.ndarray:
    """[rows, tokens, hidden] and [rows, tokens] of 0 and 1 -> [rows, hidden]"""
    if kind == "last":
        return hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1]
    if kind == "mean":
        weights = mask / mask.sum(axis=1, keepdims=True)  # [rows, tokens]
    else:
        scores = np.where(mask == 1, hidden @ query, -np.inf)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
    # Where a row has ended its numbers mean nothing: they must not get in, not even times 0 if they are infinite.
    hidden = np.where(mask[:, :, None] == 1, hidden, 0)
    return np.einsum("rt,rth->rh", weights, hidden).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
