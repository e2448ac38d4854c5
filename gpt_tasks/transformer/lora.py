"""LoRA: a large matrix learns by a small correction of low rank, while it stays frozen itself (Hu et al. 2021).

    y = W x + (α / r) · B A x,   A [r, in], B [out, r]

B begins at zero, so that training starts from the model as it was.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpt_tasks.transformer.decoder import Decoder


class LoraLinear(nn.Module):
    """A frozen linear layer and its correction.

    Args:
        down: A, [rank, in]; several layers that read the same input may share one
        alpha: the correction counts alpha / rank
    """

    def __init__(self, base: nn.Linear, down: nn.Parameter, alpha: float) -> None:
        super().__init__()
        self.base = base
        self.down = down
        self.up = nn.Parameter(torch.zeros(base.out_features, down.shape[0]))  # B
        self.scale = alpha / down.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in] -> [..., out]"""
        narrow = functional.linear(x, self.down.to(x.dtype)) * self.scale  # [..., rank]
        return self.base(x) + functional.linear(narrow, self.up.to(x.dtype))


def new_down_matrix(rank: int, size: int) -> nn.Parameter:
    """A as PEFT begins it: [rank, size], Kaiming-uniform."""
    down = nn.Parameter(torch.empty(rank, size))
    nn.init.kaiming_uniform_(down, a=math.sqrt(5))
    return down


def add_lora(decoder: Decoder, modules: Mapping[str, Sequence[str]], rank: int, alpha: float) -> dict[str, LoraLinear]:
    """Puts a correction on linear layers of a decoder, in place; every other parameter is frozen.

    Args:
        modules: what to train: a name -> our linear layers that share one A, such as
            {"model.layers.0.self_attn.q_proj": ["blocks.0.attention.query"]}

    Returns:
        the new layers by our own names
    """
    for parameter in decoder.parameters():
        parameter.requires_grad_(False)
    added = {}
    for names in modules.values():
        bases = [decoder.get_submodule(name) for name in names]
        down = new_down_matrix(rank, bases[0].in_features)
        for name, base in zip(names, bases, strict=True):
            parent, _, child = name.rpartition(".")
            added[name] = LoraLinear(base, down, alpha)
            setattr(decoder.get_submodule(parent), child, added[name])
    return added
