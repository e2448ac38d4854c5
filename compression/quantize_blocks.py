"""Blockwise weight quantization: every few weights of a row share a scale, and a zero point or more.

Two choices make a quantized matrix, and each is a function of its own: the grid that its weights may lie
on (`symmetric_grid`, `asymmetric_grid`, `source_grid`), and which point of it a weight takes: the nearest
(`round_to_nearest`) or the one that calibration finds (`compression.gptq`).
"""

from dataclasses import dataclass

import numpy as np

_ON_GRID = 2e-3
"""how far a weight may lie off its grid, in steps: what fp16 scales and fp32 arithmetic leave"""
_BLOCKS_ON_GRID = 0.9
"""of a row that lies on a grid: blocks of which only a few values occur may be taken for a coarser one"""


@dataclass(frozen=True)
class Grid:
    """The values that a matrix may take: scale · (code - zero point) + offset, for codes from 0 to 2^bits - 1.

    scales: float32 [rows, blocks], rounded to fp16, as which they are stored
    zero_points: uint8 [rows, blocks]
    offsets: float32 [rows, blocks], or None for none: a constant for each block on top of its zero point.
        They are on a symmetric grid of the same bits themselves (`stored_offsets`).
    """

    bits: int
    block_size: int
    scales: np.ndarray
    zero_points: np.ndarray
    offsets: np.ndarray | None = None

    @property
    def symmetric(self) -> bool:
        return bool((self.zero_points == 2 ** (self.bits - 1)).all())

    def values(self, codes: np.ndarray) -> np.ndarray:
        """uint8 [rows, blocks, block_size] -> float32 [rows, columns]"""
        centred = codes.astype(np.float32) - self.zero_points[..., None]
        values = centred * self.scales[..., None]
        if self.offsets is not None:
            values += self.offsets[..., None]
        return values.reshape(len(codes), -1)


@dataclass(frozen=True)
class Blocks:
    """A quantized matrix.

    codes: uint8 [rows, blocks, block_size], one code a byte whatever the bits
    """

    codes: np.ndarray
    grid: Grid

    def dequantize(self) -> np.ndarray:
        """float32 [rows, columns]"""
        return self.grid.values(self.codes)


def cut_into_blocks(weight: np.ndarray, block_size: int) -> np.ndarray:
    """[rows, columns] -> [rows, blocks, block_size]

    Raises:
        ValueError: columns that don't divide into blocks.
    """
    rows, columns = weight.shape
    if columns % block_size:
        raise ValueError(f"{columns} columns can't be cut into blocks of {block_size}")
    return weight.reshape(rows, -1, block_size)


def symmetric_grid(weight: np.ndarray, bits: int, block_size: int) -> Grid:
    """scale = max|w| / (2^(bits-1) - 1) over the block, zero in the middle.

    A weight that lies on such a grid already (llama.cpp's Q8_0) is met exactly.

    Args:
        weight: float32 [rows, columns]; the columns a multiple of the block size
    """
    blocks = cut_into_blocks(weight, block_size)
    middle = 2 ** (bits - 1)
    scales = _as_half(np.abs(blocks).max(axis=-1) / np.float32(middle - 1))  # [rows, blocks]
    return Grid(bits, block_size, scales, np.full(scales.shape, middle, np.uint8))


def asymmetric_grid(weight: np.ndarray, bits: int, block_size: int) -> Grid:
    """From the smallest to the largest weight of the block, with the zero point rounded to a code, so
    that the grid has a zero."""
    blocks = cut_into_blocks(weight, block_size)
    most = 2**bits - 1
    lowest, highest = np.minimum(blocks.min(axis=-1), 0), np.maximum(blocks.max(axis=-1), 0)  # [rows, blocks]
    scales = _as_half((highest - lowest) / most)
    zero_points = np.clip(np.rint(-lowest / _divisor(scales)), 0, most)
    return Grid(bits, block_size, scales, zero_points.astype(np.uint8))


def affine_grid(weight: np.ndarray, bits: int, block_size: int, keep_source: bool = True) -> tuple[Grid, np.ndarray]:
    """From the smallest weight of the block on, what the zero point's rounding leaves over becoming the offset.
    Up to the largest weight, or with the step that the row's weights have already.

    A checkpoint that was quantized before (llama.cpp's Q4_0, Q4_1, Q4_K ...) has at most 2^bits values in a
    block, evenly spaced. Another grid would degrade it a second time. It is recognized row by row from the
    numbers, so that it does not matter which file, or which tensor of it, they came from.

    Args:
        keep_source: look for such a grid

    Returns:
        the grid, and bool [rows]: which rows lie on it
    """
    blocks = cut_into_blocks(weight, block_size)
    lowest = blocks.min(axis=-1)  # [rows, blocks]
    span = blocks.max(axis=-1) - lowest
    above = (blocks - lowest[..., None]).reshape(-1, block_size)
    steps = (span / (2**bits - 1)).reshape(-1)
    found = steps == 0
    for count in range(1, 2**bits) if keep_source else ():  # the coarsest grid first
        rest = np.flatnonzero(~found)
        step = span.reshape(-1)[rest] / np.float32(count)
        at = above[rest] / step[:, None]
        fits = np.abs(at - np.rint(at)).max(axis=-1) < _ON_GRID * max(1, count / 4)
        steps[rest[fits]] = step[fits]
        found[rest[fits]] = True
    rows_on_grid = found.reshape(lowest.shape).mean(axis=-1) >= _BLOCKS_ON_GRID
    scales = _as_half(np.where(rows_on_grid[:, None], steps.reshape(lowest.shape), span / (2**bits - 1)))
    most = 2**bits - 1
    zero_points = np.clip(np.rint(-lowest / _divisor(scales)), 0, most).astype(np.uint8)
    offsets = lowest + scales * zero_points  # within half a step of zero, unless all weights have one sign
    kept = stored_offsets(offsets, bits, block_size).dequantize()[:, : offsets.shape[1]]
    return Grid(bits, block_size, scales, zero_points, kept), rows_on_grid


def round_to_nearest(weight: np.ndarray, grid: Grid) -> Blocks:
    """float32 [rows, columns] -> the nearest points of the grid"""
    blocks = cut_into_blocks(weight, grid.block_size)
    if grid.offsets is not None:
        blocks = blocks - grid.offsets[..., None]
    codes = np.rint(blocks / _divisor(grid.scales)[..., None]) + grid.zero_points[..., None]
    return Blocks(np.clip(codes, 0, 2**grid.bits - 1).astype(np.uint8), grid)


def stored_offsets(offsets: np.ndarray, bits: int, block_size: int) -> Blocks:
    """The offsets as a quantized matrix, [rows, blocks] filled up with zeros to whole blocks. They are small,
    and a few bits are enough."""
    padded = np.pad(offsets, ((0, 0), (0, -offsets.shape[1] % block_size)))
    return round_to_nearest(padded, symmetric_grid(padded, bits, block_size))


def _as_half(scales: np.ndarray) -> np.ndarray:
    """Rounded to fp16, but kept in fp32; what would become zero there keeps the smallest step that there is."""
    smallest = np.float32(np.finfo(np.float16).smallest_subnormal)
    return np.where(scales > 0, np.maximum(scales, smallest), 0).astype(np.float16).astype(np.float32)


def _divisor(scales: np.ndarray) -> np.ndarray:
    return np.where(scales == 0, np.float32(1), scales)
