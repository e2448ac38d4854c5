"""SmoothQuant: moves the difficulty of quantizing activations into the weights (Xiao et al. 2023).

Y = X W = (X diag(s)⁻¹) (diag(s) W): dividing each channel of X by s_j and multiplying the weights'
input channel by it changes nothing, but evens out channels whose activations are always large. The
division costs nothing, since it is folded into the weight of the norm that makes X.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from gpt_tasks.transformer.config import DecoderConfig

OUTLIER_ROWS = 10
"""A token whose largest activation is so many times the median token's is left out of the maxima: it
has a scale of its own when it is quantized, and would bend the channels' scales for all others."""
_SMALLEST = 1e-5


def channel_maxima(x: np.ndarray) -> np.ndarray:
    """The largest magnitude of each channel, outlier tokens left out: [tokens, channels] -> [channels]"""
    largest = np.abs(x).max(axis=1)  # [tokens]
    usual = largest <= OUTLIER_ROWS * np.median(largest)  # [tokens]
    return np.abs(x[usual]).max(axis=0)


def smoothing_scales(activation_maxima: np.ndarray, weight: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """s_j = max|X_j|^α / max|W_j|^(1-α), equation 4.

    Args:
        activation_maxima: [in]
        weight: [out, in]
    """
    activations = np.maximum(activation_maxima, _SMALLEST)
    weights = np.maximum(np.abs(weight).max(axis=0), _SMALLEST)
    return (activations**alpha / weights ** (1 - alpha)).astype(np.float32)


class SmoothedWeights(Mapping[str, np.ndarray]):
    """A decoder's weights with the scales folded in: the same function, easier to quantize.

    Folded into the norms before attention and feed-forward. Not between `up` and `down`, though that
    could be folded too: there the outlier tokens' activations are in a few channels, whose weights would
    be scaled down with the rest left out of the maxima, and what they write (the attention sink that all
    tokens look at) would be lost. Measured: mean KL 0.051 with it, 0.015 without.

    Args:
        weights: under our own names (see `DecoderWeights`)
        maxima: channel maxima of the inputs of the joined matrices "blocks.0.attention.query_key_value" and
            "blocks.0.feed_forward.gate_up" (or ".up")
    """

    def __init__(
        self, weights: Mapping[str, np.ndarray], config: DecoderConfig, maxima: Mapping[str, np.ndarray]
    ) -> None:
        self.config = config
        self._weights = weights
        self._columns: dict[str, np.ndarray] = {}  # weight -> factor of its input channels
        self._norms: dict[str, np.ndarray] = {}  # a norm's weight or bias -> its divisor
        gated = config.feed_forward == "swiglu"
        readers = {
            "attention_norm": ("attention.query_key_value", ("attention.query", "attention.key", "attention.value")),
            "feed_forward_norm": ("feed_forward.gate_up", ("feed_forward.gate", "feed_forward.up"))
            if gated
            else ("feed_forward.up", ("feed_forward.up",)),
        }
        for layer in range(config.layers):
            for norm, (joined, parts) in readers.items():
                names = [f"blocks.{layer}.{part}.weight" for part in parts]
                stacked = np.concatenate([weights[name] for name in names])
                scales = smoothing_scales(maxima[f"blocks.{layer}.{joined}"], stacked)
                self._columns.update(dict.fromkeys(names, scales))
                self._norms.update({f"blocks.{layer}.{norm}.{kind}": scales for kind in ("weight", "bias")})

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
