"""Key/value cache: what attention has computed for the tokens already read is kept."""

import torch
from torch import Tensor

from gpt_tasks.transformer.config import DecoderConfig


class KeyValueCache:
    """Keys and values of every layer, in buffers that are allocated once.

    A decoder with a cache reads n new tokens at the cost of n, not of all tokens so far.
    keys, values: of each layer [batch, key_value_heads, capacity, head_size]
    """

    def __init__(
        self,
        config: DecoderConfig,
        batch: int = 1,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        self.capacity = config.context_length if capacity is None else capacity
        heads = [config.of_layer(layer).key_value_heads for layer in range(config.layers)]
        shapes = [(batch, count, self.capacity, config.head_size) for count in heads]
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        self.length = 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the new tokens' key and value ([batch, heads, new, d]) and returns all so far
        ([batch, heads, length + new, d]). `advance` makes the length count them.

        Raises:
            ValueError: more tokens than the capacity.
        """
        end = self.length + key.shape[2]
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens, {end} were asked for")
        self.keys[layer][:, :, self.length : end] = key
        self.values[layer][:, :, self.length : end] = value
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, tokens: int) -> None:
        """Every layer has stored its part: the tokens count from now on."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Forgets all but the first `length` tokens.

        Raises:
            ValueError: a length that isn't between 0 and the present one.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"can't cut a cache of {self.length} tokens to {length}")
        self.length = length
