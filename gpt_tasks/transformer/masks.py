"""Masks: which token may look at which. True means "may look"."""

import torch
from torch import Tensor


def causal_mask(queries: int, keys: int, window: int | None = None, device: torch.device | None = None) -> Tensor:
    """A token sees itself and what came before: [queries, keys].

    The queries are the last of the keys (the earlier keys come from a cache), so query i stands
    at position keys - queries + i. With a window it sees that many latest tokens, itself included.
    """
    query_position = torch.arange(keys - queries, keys, device=device)[:, None]  # [queries, 1]
    key_position = torch.arange(keys, device=device)[None, :]  # [1, keys]
    distance = query_position - key_position  # [queries, keys]
    mask = distance >= 0
    return mask if window is None else mask & (distance < window)


def padding_mask(attention_mask: Tensor) -> Tensor:
    """Nobody looks at padding: [batch, keys] of 0 and 1 -> [batch, 1, 1, keys]"""
    return attention_mask.bool()[:, None, None, :]
