"""Tokens that were read, with their keys and values: what makes the next token cheap."""

from collections.abc import Sequence

import numpy as np

from gpt_tasks.transformer.config import DecoderConfig

_STEP = 256  # tokens; the buffer grows by this much


class TokenCache:
    """The KV cache of one text or conversation, and which tokens it holds.

    buffer: float32 [2 · layers, 1, key_value_heads, capacity, head_size], key and value of each
    layer in turn. The attention writes into it in place, so past and present are the same memory.
    """

    def __init__(self, config: DecoderConfig) -> None:
        self.ids: list[int] = []
        self._limit = config.context_length
        self.buffer = np.empty((2 * config.layers, 1, config.key_value_heads, 0, config.head_size), np.float32)
        self.binding: object | None = None
        """the engine's own: what it has bound to `buffer`; None after the buffer has moved"""

    @property
    def capacity(self) -> int:
        return self.buffer.shape[3]

    @property
    def nbytes(self) -> int:
        return self.buffer.nbytes

    def reserve(self, length: int) -> None:
        """Makes room for `length` tokens in all, in steps, keeping what is there.

        Raises:
            ValueError: more than the model's context.
        """
        if length > self._limit:
            raise ValueError(f"{length} tokens don't fit the context of {self._limit}")
        if length > self.capacity:
            shape = list(self.buffer.shape)
            shape[3] = min(-(-length // _STEP) * _STEP, self._limit)
            larger = np.empty(shape, np.float32)
            larger[:, :, :, : len(self.ids)] = self.buffer[:, :, :, : len(self.ids)]
            self.buffer = larger
            self.binding = None

    def keep_common_beginning(self, ids: Sequence[int]) -> int:
        """Forgets everything from the first token on that differs from `ids`; returns how many are kept.

        At least one token of `ids` is left to read, since its logits are what the caller wants.
        """
        most = min(len(self.ids), len(ids) - 1)
        common = next((i for i in range(most) if self.ids[i] != ids[i]), most)
        del self.ids[common:]
        return common
