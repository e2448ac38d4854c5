"""Blockwise weight quantization: a scale (and a zero point) for every few weights of a row."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Blocks:
    """A quantized matrix: weight ≈ scale · (code - 2^(bits-1)), each block of a row with its own scale.

    codes: uint8 [rows, blocks, block_size], one code a byte whatever the bits
    scales: float32 [rows, blocks]
    """

    codes: np.ndarray
    scales: np.ndarray
    bits: int

    def dequantize(self) -> np.ndarray:
        """float32 [rows, blocks · block_size]"""
        centred = self.codes.astype(np.float32) - 2 ** (self.bits - 1)
        return (centred * self.scales[..., None]).reshape(len(self.codes), -1)


def round_to_nearest(weight: np.ndarray, bits: int, block_size: int) -> Blocks:
    """Symmetric round-to-nearest: scale = max|w| / (2^(bits-1) - 1) over the block.

    A weight that lies on such a grid already (llama.cpp's Q8_0) is met exactly.

    Args:
        weight: float32 [rows, columns]; the columns a multiple of the block size

    Raises:
        ValueError: columns that don't divide into blocks.
    """
    rows, columns = weight.shape
    if columns % block_size:
        raise ValueError(f"{columns} columns can't be cut into blocks of {block_size}")
    blocks = weight.reshape(rows, -1, block_size)  # [rows, blocks, block_size]
    most = 2 ** (bits - 1) - 1
    scales = np.abs(blocks).max(axis=-1) / np.float32(most)  # [rows, blocks]
    divisor = np.where(scales == 0, np.float32(1), scales)[..., None]
    codes = np.rint(blocks / divisor) + (most + 1)  # [rows, blocks, block_size]
    return Blocks(codes.astype(np.uint8), scales.astype(np.float32), bits)
