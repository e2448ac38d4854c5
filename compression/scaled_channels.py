"""Scales on the channels between a norm and the matrices that read it, folded into both.

Y = X W = (X diag(s)⁻¹) (diag(s) W): dividing each channel of X by s_j and multiplying the weights' input
channel by it changes nothing, and the division costs nothing, since the norm's own weight takes it. SmoothQuant
and AWQ choose such scales so that what is quantized afterwards loses less.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from gpt_tasks.backbone.joined_matrices import norm_readers
from gpt_tasks.transformer.config import DecoderConfig


class ScaledChannels(Mapping[str, np.ndarray]):
    """A decoder's weights with the scales folded in: the same function.

    Args:
        weights: under our own names (see `DecoderWeights`)
        scales: joined matrix ("blocks.0.attention.query_key_value") -> s, [in]; only those that a norm feeds
    """

    def __init__(
        self, weights: Mapping[str, np.ndarray], config: DecoderConfig, scales: Mapping[str, np.ndarray]
    ) -> None:
        self.config = config
        self.scales = scales
        self._weights = weights
        self._columns: dict[str, np.ndarray] = {}  # weight -> factor of its input channels
        self._norms: dict[str, np.ndarray] = {}  # a norm's weight or bias -> its divisor
        for layer in range(config.layers):
            for norm, (joined, parts) in norm_readers(config).items():
                found = scales.get(f"blocks.{layer}.{joined}")
                if found is not None:
                    self._columns.update({f"blocks.{layer}.{part}.weight": found for part in parts})
                    self._norms.update({f"blocks.{layer}.{norm}.{kind}": found for kind in ("weight", "bias")})

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._weights[name]
        if name in self._columns:
            return tensor * self._columns[name]
        if name in self._norms:
            return tensor / self._norms[name]
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)
