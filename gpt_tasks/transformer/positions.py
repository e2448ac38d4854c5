"""Positions: attention alone can't tell "dog bites man" from "man bites dog".

Three ways to say where a token stands: two add a vector to the embedding (sinusoidal, learned),
one turns queries and keys so that their product depends on the distance only (rotary).
"""

import torch
from torch import Tensor, nn

from gpt_tasks.transformer.config import DecoderConfig


def sinusoidal_positions(length: int, size: int) -> Tensor:
    """Fixed waves of falling frequency (Vaswani et al. 2017, section 3.5): [length, size].

    PE(p, 2i) = sin(p / 10000^(2i/size)),  PE(p, 2i+1) = cos(p / 10000^(2i/size))

    Raises:
        ValueError: an odd size (sines and cosines come in pairs).
    """
    if size % 2:
        raise ValueError(f"sinusoidal positions need an even size, got {size}")
    frequency = 10_000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)  # [size/2]
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency  # [length, size/2]
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()  # [length, size]


def make_position_embedding(config: DecoderConfig) -> nn.Embedding | None:
    """The table that is added to the token embedding, or None where attention turns instead."""
    if config.positions == "rotary":
        return None
    table = nn.Embedding(config.context_length, config.hidden_size)
    if config.positions == "sinusoidal":
        table = nn.Embedding.from_pretrained(
            sinusoidal_positions(config.context_length, config.hidden_size), freeze=True
        )
    return table


class RotaryPositions(nn.Module):
    """Turns the pair (x_i, x_{i+d/2}) of a head by the angle p · base^(-2i/d) (Su et al. 2021).

    <turn(q, m), turn(k, n)> depends on m - n only, so that attention sees relative distance.
    Pairs are halves of the head ("rotate half", as in Llama), not neighbours.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, length: int, head_size: int, base: float) -> None:
        super().__init__()
        frequency = base ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)  # [d/2]
        angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency  # [length, d/2]
        self.register_buffer("cosine", angle.cos().float(), persistent=False)
        self.register_buffer("sine", angle.sin().float(), persistent=False)

    def forward(self, x: Tensor, position_ids: Tensor) -> Tensor:
        """x: [batch, heads, sequence, d], position_ids: [batch, sequence] -> x's shape"""
        cosine = self.cosine[position_ids][:, None]  # [batch, 1, sequence, d/2]
        sine = self.sine[position_ids][:, None]  # [batch, 1, sequence, d/2]
        first, second = x.float().chunk(2, dim=-1)  # [batch, heads, sequence, d/2] each
        turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
        return turned.to(x.dtype)
