"""GPTQ: rounding that makes up for its own errors (Frantar et al. 2023)."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from compression.quantize_blocks import Blocks, Grid

DAMPING = 0.01
_ROWS = 8192  # at once, for the sake of memory
_PANEL = 32  # columns whose corrections reach the rest of the matrix in one product


def gptq(weight: np.ndarray, hessian: Tensor, grid: Grid, damping: float = DAMPING) -> Blocks:
    """Takes the columns one by one: rounds a column to the grid, and moves all columns that are still to
    come so that the output changes as little as possible.

    It minimizes ‖(W - Ŵ) X‖², whose Hessian for every row is H = X Xᵀ. With U the upper Cholesky factor of
    H⁻¹, the error of column i, divided by U_ii, times U_i,j is taken off column j (algorithm 1). The columns
    with the largest activations come first, while there are most others to make up for them.

    Args:
        weight: float32 [out, in]
        hessian: [in, in]
        damping: of the mean diagonal element, added to the diagonal

    Returns:
        codes on the given grid, which stays as it is
    """
    order = torch.argsort(hessian.diagonal(), descending=True, stable=True)  # [in]
    mean = hessian.diagonal().double().mean()
    factor = inverse_factor(hessian[order][:, order], (damping * mean).expand(len(order))).float()  # [in, in]
    codes = [
        _rounded_rows(weight[begin : begin + _ROWS], _rows(grid, begin), order, factor)
        for begin in range(0, len(weight), _ROWS)
    ]
    return Blocks(np.concatenate(codes).reshape(len(weight), -1, grid.block_size), grid)


def _rounded_rows(weight: np.ndarray, grid: Grid, order: Tensor, factor: Tensor) -> np.ndarray:
    """Codes, uint8 [out, in]. Rows don't know of each other."""
    block_of = order // grid.block_size  # [in]

    def spread(values: np.ndarray) -> Tensor:
        """[out, blocks] -> [in, out]: of each weight, in the order of work"""
        return torch.tensor(values, dtype=torch.float32).T[block_of]

    scales, zero_points = spread(grid.scales), spread(grid.zero_points)
    offsets = torch.zeros_like(scales) if grid.offsets is None else spread(grid.offsets)
    steps = torch.where(scales == 0, 1.0, scales)
    rest = torch.tensor(weight).T[order]  # [in, out]: what is worked on together lies together
    codes = torch.empty_like(rest)
    for begin in range(0, len(order), _PANEL):
        end = min(begin + _PANEL, len(order))
        errors = torch.empty(end - begin, len(weight))
        for i in range(begin, end):
            code = torch.round((rest[i] - offsets[i]) / steps[i]) + zero_points[i]
            codes[i] = code.clamp_(0, 2**grid.bits - 1)
            value = (code - zero_points[i]) * scales[i] + offsets[i]
            errors[i - begin] = error = (rest[i] - value) / factor[i, i]  # [out]
            rest[i + 1 : end].addr_(factor[i, i + 1 : end], error, alpha=-1)
        rest[end:].addmm_(factor[begin:end, end:].T, errors, alpha=-1)
    unsorted = torch.empty_like(codes)
    unsorted[order] = codes
    return unsorted.T.to(torch.uint8).numpy()


def _rows(grid: Grid, begin: int) -> Grid:
    rows = slice(begin, begin + _ROWS)
    offsets = None if grid.offsets is None else grid.offsets[rows]
    return replace(grid, scales=grid.scales[rows], zero_points=grid.zero_points[rows], offsets=offsets)


def inverse_factor(hessian: Tensor, damping: Tensor) -> Tensor:
    """U with UᵀU = (H + diag(damping))⁻¹, upper triangular, in fp64.

    Args:
        hessian: [in, in]
        damping: [in]; 1 takes the place of 0, which an input that is always 0 gives
    """
    damped = hessian.double() + torch.diag(torch.where(damping > 0, damping.double(), 1.0))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)
