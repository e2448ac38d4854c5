"""What the zeros left of a matrix is solved for once more: no zero moves, the others make up for them together."""

import torch
from torch import Tensor

DAMPING = 0.1
"""as `sparse_gpt`'s"""
STEPS = 10


def refit(weight: Tensor, sparse: Tensor, moments: Tensor, damping: float = DAMPING, steps: int = STEPS) -> Tensor:
    """argmin over V of tr((V − W) (H + λ diag H) (V − W)ᵀ), V zero wherever `sparse` is.

    SparseGPT's columns make up for those to their left only, and Wanda's for none. Each row is a least-squares problem
    on columns of its own, for which it would need a factorization of its own; conjugate gradients, preconditioned with
    the diagonal, take one product with H a step for all rows (Meng et al. 2024, ALPS, algorithm 2).

    Args:
        weight: W, as it was before it got its zeros, [out, in]
        sparse: what they left, where the search begins, [out, in]
        moments: H, of what the matrix reads: `second_moments`, [in, in]
        damping: λ, each channel by its own size, as in `sparse_gpt`
        steps: of conjugate gradients; after ten hardly more is gained, after `in` of them the solution is exact
    """
    diagonal = (1 + damping) * moments.diagonal()
    scale = torch.where(diagonal > 0, diagonal, 1.0).sqrt()  # [in]
    correlations = (moments + damping * torch.diag(moments.diagonal())) / torch.outer(scale, scale)
    correlations, scale = correlations.to(weight.dtype), scale.to(weight.dtype)
    kept = sparse != 0
    smallest = torch.finfo(weight.dtype).tiny
    found = sparse * scale
    residual = ((weight - sparse) * scale) @ correlations * kept  # [out, in]
    direction = residual
    square = residual.square().sum(dim=1, keepdim=True)  # [out, 1]
    for _ in range(steps):
        product = direction @ correlations * kept
        length = square / (direction * product).sum(dim=1, keepdim=True).clamp(min=smallest)
        found = found + length * direction
        residual = residual - length * product
        before, square = square, residual.square().sum(dim=1, keepdim=True)
        direction = residual + square / before.clamp(min=smallest) * direction
    return found / scale
