"""Normalization: keeps the residual stream's numbers in range."""

import torch
from torch import Tensor, nn

from gpt_tasks.transformer.config import DecoderConfig


class LayerNorm(nn.Module):
    """y = (x - mean(x)) / sqrt(var(x) + ε) · g + b, over the last axis (Ba et al. 2016)."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., size] -> [..., size]"""
        mean = x.mean(dim=-1, keepdim=True)  # [..., 1]
        variance = (x - mean).square().mean(dim=-1, keepdim=True)  # [..., 1]
        return (x - mean) * torch.rsqrt(variance + self.epsilon) * self.weight + self.bias


class RMSNorm(nn.Module):
    """y = x / sqrt(mean(x²) + ε) · g, over the last axis (Zhang and Sennrich 2019).

    The mean is not subtracted and there is no bias: cheaper than LayerNorm, and as good.
    Computed in fp32 whatever the input's type, since squares of bf16 lose too much.
    """

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., size] -> [..., size]"""
        wide = x.float()
        mean_square = wide.square().mean(dim=-1, keepdim=True)  # [..., 1]
        return (wide * torch.rsqrt(mean_square + self.epsilon)).to(x.dtype) * self.weight


def make_norm(config: DecoderConfig) -> nn.Module:
    kind = {"rms": RMSNorm, "layer": LayerNorm}[config.norm]
    return kind(config.hidden_size, config.norm_epsilon)
