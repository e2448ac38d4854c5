"""Says of a text that none of the labels fits, from the head's logits and the features' distances."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_SHRINKAGE = 1.0  # of the covariance towards its mean variance: 1,000 features know little of 576 dimensions


@dataclass(frozen=True)
class OutOfScopeRule:
    """score = (margin - m₁) / s₁ + (distance - m₂) / s₂, out of scope from the threshold on.

    margin: the out-of-scope logit over the best other one. distance: the smallest Mahalanobis distance of the
    features to a label's mean, with one covariance for all labels (Lee et al. 2018). The two are wrong on
    different texts; each is brought to mean 0 and deviation 1 on dev.
    """

    label: int
    """the number of the out-of-scope label among the head's"""
    means: np.ndarray
    """[labels, hidden], whitened; the out-of-scope label's row isn't used"""
    whitening: np.ndarray
    """[hidden, hidden]: features @ whitening have unit covariance within a label"""
    centers: tuple[float, float]
    deviations: tuple[float, float]
    threshold: float

    def scores(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        """[rows, labels], [rows, hidden] -> [rows]"""
        parts = _parts(logits, features, self.label, self.means, self.whitening)
        return sum(
            (part - center) / deviation
            for part, center, deviation in zip(parts, self.centers, self.deviations, strict=True)
        )

    def tensors(self) -> dict[str, np.ndarray]:
        return {"out_of_scope.means": self.means, "out_of_scope.whitening": self.whitening}

    def settings(self) -> dict:
        """What isn't a tensor, for JSON."""
        return {
            "label": self.label,
            "centers": list(self.centers),
            "deviations": list(self.deviations),
            "threshold": self.threshold,
        }

    @classmethod
    def restore(cls, settings: Mapping, tensors: Mapping[str, np.ndarray]) -> "OutOfScopeRule":
        """
        Raises:
            KeyError: something is missing.
        """
        return cls(
            settings["label"],
            tensors["out_of_scope.means"],
            tensors["out_of_scope.whitening"],
            tuple(settings["centers"]),
            tuple(settings["deviations"]),
            settings["threshold"],
        )


def _parts(
    logits: np.ndarray, features: np.ndarray, label: int, means: np.ndarray, whitening: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """margin and distance, [rows] each"""
    others = np.delete(logits, label, axis=1)
    margin = logits[:, label] - others.max(axis=1)
    white = features @ whitening  # [rows, hidden]
    centers = np.delete(means, label, axis=0)  # [labels - 1, hidden]
    squared = (white**2).sum(1)[:, None] + (centers**2).sum(1)[None] - 2 * white @ centers.T
    return margin, np.sqrt(np.maximum(squared.min(axis=1), 0))


def fit_out_of_scope(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    dev_logits: np.ndarray,
    dev_features: np.ndarray,
    dev_labels: np.ndarray,
    label: int,
    given_up: float = 0.0025,
) -> OutOfScopeRule:
    """Distances from train; the threshold is the lowest that keeps the accuracy in scope on dev.

    Args:
        label: the number of the out-of-scope label
        given_up: the part of dev's texts in scope that may lose their right label to the rule
    """
    labels = dev_logits.shape[1]
    means = np.zeros((labels, train_features.shape[1]), np.float64)
    for index in np.unique(train_labels):
        means[index] = train_features[train_labels == index].mean(axis=0)
    inside = train_labels != label
    spread = train_features[inside] - means[train_labels[inside]]
    covariance = spread.T @ spread / len(spread)
    mean_variance = np.trace(covariance) / len(covariance)
    precision = np.linalg.inv(covariance + _SHRINKAGE * mean_variance * np.eye(len(covariance)))
    whitening = np.linalg.cholesky(precision).astype(np.float32)
    means = (means @ whitening).astype(np.float32)

    parts = _parts(dev_logits, dev_features, label, means, whitening)
    centers, deviations = tuple(float(p.mean()) for p in parts), tuple(float(p.std()) or 1.0 for p in parts)
    scores = sum((p - c) / d for p, c, d in zip(parts, centers, deviations, strict=True))
    masked = dev_logits.copy()
    masked[:, label] = -np.inf
    in_scope = dev_labels != label
    right = (masked.argmax(axis=1) == dev_labels)[in_scope]
    wanted = right.mean() - given_up
    for threshold in np.sort(scores):
        if (right & (scores[in_scope] < threshold)).mean() >= wanted:
            break
    return OutOfScopeRule(label, means, whitening, centers, deviations, float(threshold))
