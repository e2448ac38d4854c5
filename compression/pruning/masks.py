"""Which weights of a matrix go: pure functions. A mask is True where a weight stays."""

import torch
from torch import Tensor

Pattern = tuple[int, int]
"""(n, m): of every m neighbouring weights of a row, n go"""


def magnitude_mask(weight: Tensor, sparsity: float, pattern: Pattern | None = None) -> Tensor:
    """The smallest weights of the matrix go (Han et al. 2015).

    Args:
        weight: [out, in]
        sparsity: the part that goes; not asked where there is a pattern

    Returns:
        bool [out, in]
    """
    scores = weight.abs()
    if pattern is not None:
        return _keep_in_groups(scores, pattern)
    return _keep_largest(scores.flatten(), sparsity).reshape(weight.shape)


def wanda_mask(weight: Tensor, input_norms: Tensor, sparsity: float, pattern: Pattern | None = None) -> Tensor:
    """In every row, the weights go whose |W_ij| · ‖X_j‖ is smallest: a small weight on a loud input counts
    (Wanda, Sun et al. 2024).

    Args:
        weight: [out, in]
        input_norms: ‖X_j‖ of each input channel over the calibration tokens, [in]

    Returns:
        bool [out, in]
    """
    scores = weight.abs() * input_norms
    return _keep_largest(scores, sparsity) if pattern is None else _keep_in_groups(scores, pattern)


def _keep_largest(scores: Tensor, sparsity: float) -> Tensor:
    """Along the last axis."""
    gone = round(sparsity * scores.shape[-1])
    keep = torch.ones_like(scores, dtype=torch.bool)
    return keep.scatter_(-1, scores.argsort(dim=-1, stable=True)[..., :gone], False)


def _keep_in_groups(scores: Tensor, pattern: Pattern) -> Tensor:
    gone, size = pattern
    groups = scores.unflatten(-1, (-1, size))  # [out, in / m, m]
    keep = torch.ones_like(groups, dtype=torch.bool)
    keep.scatter_(-1, groups.argsort(dim=-1, stable=True)[..., :gone], False)
    return keep.flatten(-2)
