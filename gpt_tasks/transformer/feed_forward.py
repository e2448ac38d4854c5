"""Feed-forward: each token thinks for itself about what attention has gathered."""

import math

import torch
from torch import Tensor, nn

from gpt_tasks.transformer.config import DecoderConfig


def gelu(x: Tensor) -> Tensor:
    """x · Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016)."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU with Φ approximated by tanh, as GPT-2 was trained with."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Tensor) -> Tensor:
    """x · σ(x), also called Swish."""
    return x * torch.sigmoid(x)


class GeluFeedForward(nn.Module):
    """W_down · gelu(W_up x + b_up) + b_down"""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.activation = {"gelu": gelu, "gelu_tanh": gelu_tanh}[config.feed_forward]
        self.up = nn.Linear(config.hidden_size, config.feed_forward_size, bias=config.feed_forward_bias)
        self.down = nn.Linear(config.feed_forward_size, config.hidden_size, bias=config.feed_forward_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., hidden] -> [..., hidden]"""
        return self.down(self.activation(self.up(x)))


class SwiGluFeedForward(nn.Module):
    """W_down (silu(W_gate x) ⊙ W_up x): one branch opens and shuts the other (Shazeer 2020)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.hidden_size, config.feed_forward_size, bias=config.feed_forward_bias)
        self.up = nn.Linear(config.hidden_size, config.feed_forward_size, bias=config.feed_forward_bias)
        self.down = nn.Linear(config.feed_forward_size, config.hidden_size, bias=config.feed_forward_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., hidden] -> [..., hidden]"""
        return self.down(silu(self.gate(x)) * self.up(x))


def make_feed_forward(config: DecoderConfig) -> nn.Module:
    return SwiGluFeedForward(config) if config.feed_forward == "swiglu" else GeluFeedForward(config)
