"""Pooling: many tokens' hidden states become one vector for the text."""

from typing import Literal

import torch
from torch import Tensor, nn

PoolingName = Literal["mean", "last", "attention"]
POOLINGS: tuple[PoolingName, ...] = ("mean", "last", "attention")


class Pooling(nn.Module):
    """mean: of all tokens. last: the last one, which has seen all others. attention: a mean whose weights
    softmax(h · q) are learned with the query q."""

    def __init__(self, kind: PoolingName, hidden_size: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "attention":
            self.query = nn.Parameter(torch.zeros(hidden_size))  # begins as the mean

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden: [batch, sequence, hidden], mask: [batch, sequence] of 0 and 1 -> [batch, hidden]"""
        if self.kind == "last":
            last = mask.sum(dim=1) - 1  # [batch]
            return hidden[torch.arange(len(hidden)), last]
        if self.kind == "mean":
            weights = mask / mask.sum(dim=1, keepdim=True)  # [batch, sequence]
        else:
            scores = (hidden @ self.query).masked_fill(mask == 0, -torch.inf)
            weights = scores.softmax(dim=1)  # [batch, sequence]
        return (weights[:, :, None] * hidden).sum(dim=1)
