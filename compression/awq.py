"""AWQ: channels that matter are made larger before rounding, so that they lose less (Lin et al. 2024)."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from compression.quantize_blocks import Blocks

_SEARCHED = 20


def awq_scales(weight: np.ndarray, hessian: Tensor, quantize: Callable[[np.ndarray], Blocks]) -> np.ndarray:
    """s = rms(X)^α for the α in [0, 1) with the smallest error ‖(W - Q(W diag(s)) diag(s)⁻¹) X‖² (equations 4, 5).

    Dividing X by s changes nothing in exact arithmetic, and costs nothing where a norm makes X. (The paper
    takes the mean magnitude of a channel of X; its root mean square is on the Hessian's diagonal.)

    Args:
        weight: float32 [out, in]
        hessian: [in, in], the second moments of X
        quantize: how the scaled matrix will be rounded

    Returns:
        float32 [in], with a geometric mean of its extremes of 1; all ones where nothing is better than that
    """
    original = torch.tensor(weight)
    channel = hessian.diagonal().clamp(min=1e-12).sqrt().float()  # [in]
    second = hessian.float()
    best, least = torch.ones_like(channel), float("inf")
    for step in range(_SEARCHED):
        scales = channel ** (step / _SEARCHED)
        scales = scales / (scales.max() * scales.min()).sqrt()
        rounded = torch.tensor(quantize((original * scales).numpy()).dequantize()) / scales
        difference = original - rounded  # [out, in]
        error = float((difference @ second * difference).sum())
        if error < least:
            best, least = scales, error
    return best.numpy()
