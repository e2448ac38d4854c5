"""Tokens that were read, with their keys and values: what makes the next token cheap."""

from collections.abc import Sequence

import numpy as np

from gpt_tasks.transformer.config import DecoderConfig

_STEP = 256  # tokens; the buffer grows by this much


class TokenCache:
    """The KV cache of one text or conversation, and which tokens it holds.

    buffers: float32 [1, key_value_heads, capacity, head_size], key and value of each layer in turn.
    The attention writes into them in place, so past and present are the same memory.
    """

    def __init__(self, config: DecoderConfig) -> None:
        self.config = config
        self.ids: list[int] = []
        self.capacity = 0
        heads = [config.of_layer(layer).key_value_heads for layer in range(config.layers)]
        self.buffers = [np.empty((1, count, 0, config.head_size), np.float32) for count in heads for _ in range(2)]
        self.binding: object | None = None
        """the engine's own: what it has bound to the buffers; None after they have moved"""

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers)

    def reserve(self, length: int) -> None:
        """Makes room for `length` tokens in all, in steps, keeping what is there.

        Raises:
            ValueError: more than the model's context.
        """
        if length > self.config.context_length:
            raise ValueError(f"{length} tokens don't fit the context of {self.config.context_length}")
        if length > self.capacity:
            self.binding = None
            self.capacity = min(-(-length // _STEP) * _STEP, self.config.context_length)
            for index, buffer in enumerate(self.buffers):  # one after another: the old ones go meanwhile
                _, heads, _, size = buffer.shape
                larger = np.empty((1, heads, self.capacity, size), np.float32)
                larger[:, :, : len(self.ids)] = buffer[:, :, : len(self.ids)]
                self.buffers[index] = larger

    def keep_common_beginning(self, ids: Sequence[int]) -> int:
        """Forgets everything from the first token on that differs from `ids`; returns how many are kept.

        At least one token of `ids` is left to read, since its logits are what the caller wants.
        """
        most = min(len(self.ids), len(ids) - 1)
        common = next((i for i in range(most) if self.ids[i] != ids[i]), most)
        del self.ids[common:]
        return common
