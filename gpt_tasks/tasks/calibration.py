"""Confidence that means what it says: temperature scaling, and the error that is left."""

import numpy as np

from gpt_tasks.tasks.heads import softmax

_BINS = 15


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T with which softmax(logits / T) gives the labels the highest likelihood (Guo et al. 2017).

    Args:
        logits: [rows, labels], of texts that weren't trained on
        labels: [rows], the right one's number
    """
    # The likelihood has one maximum in T; a fine grid on a logarithmic scale needs no optimizer.
    candidates = np.exp(np.linspace(np.log(0.2), np.log(5), 200))
    rows = np.arange(len(labels))
    loss = [-np.log(softmax(logits / t)[rows, labels] + 1e-12).mean() for t in candidates]
    return float(candidates[int(np.argmin(loss))])


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean distance of confidence and accuracy over bins of equal width (Naeini et al. 2015), 0 to 1.

    Args:
        confidence: [rows], the probability of the label that was given
        right: [rows] of bool
    """
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    error = 0.0
    for index in np.unique(bins):
        inside = bins == index
        error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return float(error)
