"""SparseGPT: what is left of a matrix makes up for what was taken out (Frantar and Alistarh 2023)."""

import torch
from torch import Tensor

from compression.gptq import inverse_factor
from compression.pruning.masks import Pattern

DAMPING = 0.1
"""measured at half of the weights, perplexity: 0.01 and 0.5 are worse with 8,192 tokens; with more it matters less"""
_PANEL = 128  # columns whose mask is chosen together


def sparse_gpt(
    weight: Tensor, hessian: Tensor, sparsity: float, pattern: Pattern | None = None, damping: float = DAMPING
) -> Tensor:
    """Takes the columns from left to right; what a column loses is made up for by those to its right.

    With U the upper Cholesky factor of H⁻¹, setting w_ij to zero costs (w_ij / U_jj)² once all columns to its right
    have made up for it: in each panel of 128 columns the cheapest go (with a pattern: of each group). The column's
    error over U_jj, times U_jk, is then taken off column k (algorithm 1).

    Each channel is damped by its own size. The paper adds a part of the mean diagonal element to all: where a few
    channels are far larger than the others, that keeps the others from making up for anything.

    Args:
        weight: [out, in]
        hessian: X Xᵀ of the inputs, or in proportion to it, [in, in]
        damping: of each diagonal element, added to it

    Returns:
        [out, in] with zeros
    """
    factor = inverse_factor(hessian, damping * hessian.diagonal()).to(weight.dtype)  # [in, in]
    rest = weight.clone()
    columns = weight.shape[1]
    panel = _PANEL if pattern is None else _PANEL // pattern[1] * pattern[1] or pattern[1]
    for begin in range(0, columns, panel):
        end = min(begin + panel, columns)
        diagonal = factor.diagonal()[begin:end]
        keep = torch.ones_like(rest[:, begin:end], dtype=torch.bool)
        if pattern is None:
            costs = (rest[:, begin:end] / diagonal).square().flatten()
            gone = costs.argsort(stable=True)[: round(sparsity * costs.numel())]
            keep.view(-1)[gone] = False
        errors = torch.zeros_like(rest[:, begin:end])
        for column in range(begin, end):
            at = column - begin
            if pattern is not None and at % pattern[1] == 0:  # by now the group has got what others lost
                group = slice(column, column + pattern[1])
                costs = (rest[:, group] / factor.diagonal()[group]).square()
                keep[:, at : at + pattern[1]].scatter_(1, costs.argsort(dim=1, stable=True)[:, : pattern[0]], False)
            lost = torch.where(keep[:, at], 0.0, rest[:, column]) / factor[column, column]  # [out]
            rest[:, column] *= keep[:, at]
            rest[:, column + 1 : end] -= lost[:, None] * factor[column, column + 1 : end]
            errors[:, at] = lost
        rest[:, end:] -= errors @ factor[begin:end, end:]
    return rest
