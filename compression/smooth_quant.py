"""SmoothQuant: moves the difficulty of quantizing activations into the weights (Xiao et al. 2023).

Scales on the channels (see `scaled_channels`) even out those whose activations are always large.
"""

from collections.abc import Mapping

import numpy as np

from gpt_tasks.backbone.joined_matrices import norm_readers
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


def smooth_quant_scales(
    weights: Mapping[str, np.ndarray], config: DecoderConfig, maxima: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Scales of the joined matrices that norms feed ("blocks.0.attention.query_key_value" -> [in]).

    Only for the norms before attention and feed-forward. Not `up` and `down`, though that could be
    folded too: there the outlier tokens' activations are in a few channels, whose weights would be scaled
    down with the rest left out of the maxima, and what they write (the attention sink that all tokens look
    at) would be lost. Measured: mean KL 0.051 with it, 0.015 without.

    Args:
        weights: under our own names (see `DecoderWeights`)
        maxima: channel maxima of the inputs of the joined matrices that norms feed (see `norm_readers`)
    """
    scales = {}
    for layer in range(config.layers):
        for joined, parts in norm_readers(config).values():
            stacked = np.concatenate([weights[f"blocks.{layer}.{part}.weight"] for part in parts])
            name = f"blocks.{layer}.{joined}"
            scales[name] = smoothing_scales(maxima[name], stacked)
    return scales
