"""Attention: every token gathers from the tokens it may see what is relevant to it."""

import math

import torch
from torch import Tensor, nn

from gpt_tasks.transformer.config import DecoderConfig
from gpt_tasks.transformer.kv_cache import KeyValueCache
from gpt_tasks.transformer.positions import RotaryPositions

_BLOCK = 256  # queries: more do work that is masked, fewer make small matrices


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(QKᵀ / √d_k) V (Vaswani et al. 2017, equation 1).

    Args:
        query: [..., queries, d]
        key, value: [..., keys, d]
        mask: bool, broadcast to [..., queries, keys]; True where a query may see a key.
            A query that may see nothing (padding) gets the mean of all values, never NaN.

    Returns:
        the gathered values [..., queries, d] and the weights [..., queries, keys], whose rows sum to 1.
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # [..., queries, keys]
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.float().softmax(dim=-1).to(value.dtype)  # [..., queries, keys]
    return weights @ value, weights


def causal_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """The values that `scaled_dot_product_attention` gathers, without its weights, where nobody may look ahead.

    A block of queries reads the keys up to its last query alone: what comes after is masked for all of them. With many
    blocks that is half of the work, and no [queries, keys] table is held at once; a training step on 1,024 tokens
    takes two thirds of the time.

    Args:
        query: [batch, heads, queries, d], the last of the keys' positions
        key, value: [batch, heads, keys, d]
        mask: bool, [..., queries, keys], no query sees a later key
    """
    queries, keys = query.shape[-2], key.shape[-2]
    if queries <= _BLOCK:
        return scaled_dot_product_attention(query, key, value, mask)[0]
    gathered = []
    for block in range((queries + _BLOCK - 1) // _BLOCK):
        begin, end = block * _BLOCK, min((block + 1) * _BLOCK, queries)
        seen = keys - queries + end
        part = scaled_dot_product_attention(
            query[..., begin:end, :], key[..., :seen, :], value[..., :seen, :], mask[..., begin:end, :seen]
        )
        gathered.append(part[0])
    return torch.cat(gathered, dim=-2)


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each in its own subspace, their results joined.

    head_i = Attention(x W_Q^i, x W_K^g, x W_V^g),  out = [head_1 ... head_h] W_O

    With fewer key/value heads than query heads, g = i // group: neighbouring query heads share
    one key/value head, which makes the cache smaller (grouped-query attention, Ainslie et al. 2023).
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        bias = config.query_key_value_bias
        self.query = nn.Linear(config.hidden_size, config.query_size, bias=bias)
        self.key = nn.Linear(config.hidden_size, config.key_value_size, bias=bias)
        self.value = nn.Linear(config.hidden_size, config.key_value_size, bias=bias)
        self.output = nn.Linear(config.query_size, config.hidden_size, bias=config.attention_output_bias)

    def _heads(self, x: Tensor) -> Tensor:
        """[batch, sequence, heads · d] -> [batch, heads, sequence, d]"""
        return x.unflatten(-1, (-1, self.config.head_size)).transpose(1, 2)

    def forward(
        self,
        x: Tensor,
        position_ids: Tensor,
        mask: Tensor,
        rotary: RotaryPositions | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        blockwise: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            x: [batch, sequence, hidden]
            position_ids: [batch, sequence]
            mask: bool, broadcast to [batch, query_heads, sequence, keys]
            rotary: turns queries and keys, where positions are not in x already
            cache: keys and values of earlier tokens, extended by these
            blockwise: faster on long texts; the mask must be causal, and there are no weights to return

        Returns:
            [batch, sequence, hidden] and the weights [batch, query_heads, sequence, keys]
        """
        query = self._heads(self.query(x))  # [batch, query_heads, sequence, d]
        key = self._heads(self.key(x))  # [batch, key_value_heads, sequence, d]
        value = self._heads(self.value(x))  # [batch, key_value_heads, sequence, d]
        if rotary is not None:
            query, key = rotary(query, position_ids), rotary(key, position_ids)
        if cache is not None:
            key, value = cache.extend(layer, key, value)  # [batch, key_value_heads, keys, d]
        group = self.config.query_heads // self.config.key_value_heads
        key = key.repeat_interleave(group, dim=1)  # [batch, query_heads, keys, d]
        value = value.repeat_interleave(group, dim=1)  # [batch, query_heads, keys, d]
        if blockwise:
            gathered, weights = causal_attention(query, key, value, mask), None
        else:
            gathered, weights = scaled_dot_product_attention(query, key, value, mask)
        joined = gathered.transpose(1, 2).flatten(2)  # [batch, sequence, query_heads · d]
        return self.output(joined), weights
