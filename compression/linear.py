"""How a matrix of the model is stored and multiplied in the graph: one class a number format.

A format writes the linear layers and the embedding with its head; what lies between them
(norms, attention, activations) is in fp32 in every format and belongs to `decoder_graph`.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from compression.graph import Graph, bytes_in_file
from compression.quantize_blocks import Blocks, Grid, round_to_nearest, stored_offsets, symmetric_grid
from gpt_tasks.errors import UserError

_SMALLEST_BLOCK = 16


class NumberFormat(Protocol):
    def linear(self, graph: Graph, name: str, x: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        """y = x Wᵀ + b; weight: [out, in]. Returns y's name."""

    def embedding(self, graph: Graph, name: str, ids: str, weight: np.ndarray) -> str:
        """Rows of the table: ids [batch, sequence] -> [batch, sequence, hidden]."""

    def tied_head(self, graph: Graph, name: str, x: str, embedding: str, weight: np.ndarray) -> str:
        """Logits against the embedding that is stored already, under the name `embedding`."""


class Float32:
    """Weights as they are."""

    def linear(self, graph: Graph, name: str, x: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        y = graph.node("MatMul", [x, graph.tensor(f"{name}.weight", weight.T)], f"{name}.product")
        return y if bias is None else graph.node("Add", [y, graph.tensor(f"{name}.bias", bias)], f"{name}.output")

    def embedding(self, graph: Graph, name: str, ids: str, weight: np.ndarray) -> str:
        return graph.node("Gather", [graph.tensor(f"{name}.weight", weight), ids], f"{name}.rows")

    def tied_head(self, graph: Graph, name: str, x: str, embedding: str, weight: np.ndarray) -> str:
        return graph.fused("FusedMatMul", [x, graph.tensor(f"{embedding}.weight", weight)], f"{name}.product", transB=1)


Quantize = Callable[[str, np.ndarray], Blocks]
"""A matrix's name ("blocks.0.attention.output", "embedding", "head") and its weights -> the quantized matrix"""


class BlockInteger:
    """Weights in integer blocks, multiplied as integers (`MatMulNBits`).

    The activations are quantized on the fly, a scale for each block of each token, which is why
    massive activations do no harm here (accuracy_level 4 asks for that).

    A grid's offsets: x · (W + O), where O is constant in each block, is x · W plus the sums of x's
    blocks times the offsets. So the sums are appended to x, and the offsets to W as further columns.
    """

    def __init__(self, quantize: Quantize) -> None:
        self._quantize = quantize

    def linear(self, graph: Graph, name: str, x: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        return self._product(graph, name, name, x, self._quantize(name, weight), bias)

    def embedding(self, graph: Graph, name: str, ids: str, weight: np.ndarray) -> str:
        blocks = self._quantize(name, weight)
        codes, *others = self._store(graph, name, blocks)
        # The table is kept as the head's product wants it, [rows, blocks, bytes]; looking up wants [rows, bytes].
        table = graph.view(f"{name}.table", codes, [len(weight), weight.shape[1] * blocks.grid.bits // 8])
        return graph.fused(
            "GatherBlockQuantized",
            [table, ids, *others],
            f"{name}.rows",
            bits=blocks.grid.bits,
            block_size=blocks.grid.block_size,
            gather_axis=0,
            quantize_axis=1,
        )

    def tied_head(self, graph: Graph, name: str, x: str, embedding: str, weight: np.ndarray) -> str:
        return self._product(graph, name, embedding, x, self._quantize(embedding, weight), None)

    def _store(self, graph: Graph, name: str, blocks: Blocks) -> list[str]:
        """Names of codes and scales, and of the zero points where they aren't the middle."""
        grid = blocks.grid
        names = [
            graph.tensor(f"{name}.codes", _packed(blocks.codes, grid.bits)),
            graph.half_tensor(f"{name}.scales", grid.scales),
        ]
        if not grid.symmetric:
            names.append(graph.tensor(f"{name}.zero_points", _packed(grid.zero_points, grid.bits)))
        return names

    def _product(self, graph: Graph, name: str, stored: str, x: str, blocks: Blocks, bias: np.ndarray | None) -> str:
        if blocks.grid.offsets is not None:
            x = self._with_block_sums(graph, name, x, blocks)
            blocks = _with_offsets_as_columns(blocks)
        inputs = [x, *self._store(graph, stored, blocks)]
        if bias is not None:
            inputs += [""] * (5 - len(inputs)) + [graph.tensor(f"{name}.bias", bias)]
        rows, in_row, block_size = blocks.codes.shape
        return graph.fused(
            "MatMulNBits",
            inputs,
            f"{name}.product",
            N=rows,
            K=in_row * block_size,
            bits=blocks.grid.bits,
            block_size=block_size,
            accuracy_level=4,
        )

    def _with_block_sums(self, graph: Graph, name: str, x: str, blocks: Blocks) -> str:
        _, in_row, block_size = blocks.codes.shape
        sums = np.kron(np.eye(in_row), np.ones((block_size, 1))).astype(np.float32)  # [columns, blocks]
        summing = graph.tensor(f"block_sums.{in_row}.{block_size}", np.pad(sums, ((0, 0), (0, -in_row % block_size))))
        return graph.node("Concat", [x, graph.node("MatMul", [x, summing], f"{name}.sums")], f"{name}.input", axis=-1)


def rounded(bits: int, block_size: int, head_block_size: int) -> Quantize:
    """Symmetric round-to-nearest; the block sizes are halved where a matrix's columns don't divide by them."""

    def quantize(name: str, weight: np.ndarray) -> Blocks:
        wanted = head_block_size if name in ("embedding", "head") else block_size
        fitting = fitting_block_size(weight.shape[1], wanted)
        return round_to_nearest(weight, symmetric_grid(weight, bits, fitting))

    return quantize


def _with_offsets_as_columns(blocks: Blocks) -> Blocks:
    grid = blocks.grid
    offsets = stored_offsets(grid.offsets, grid.bits, grid.block_size)
    both = [
        np.concatenate(pair, axis=1)
        for pair in (
            (blocks.codes, offsets.codes),
            (grid.scales, offsets.grid.scales),
            (grid.zero_points, offsets.grid.zero_points),
        )
    ]
    return Blocks(both[0], Grid(grid.bits, grid.block_size, *both[1:]))


def stored_bytes(grid: Grid) -> int:
    """Of a quantized matrix in the graph's files: codes, scales in fp16, zero points, offsets as further columns."""
    rows, blocks = grid.scales.shape
    if grid.offsets is not None:
        blocks += -(-blocks // grid.block_size)
    zero_points = 0 if grid.symmetric else -(-blocks * grid.bits // 8)
    in_a_row = (blocks * grid.block_size * grid.bits // 8, 2 * blocks, zero_points)
    return sum(bytes_in_file(rows * nbytes) for nbytes in in_a_row)


def _packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Two 4-bit codes a byte, the earlier one in the lower half: [..., n] -> [..., n / 2 rounded up]"""
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    return np.ascontiguousarray(codes[..., 0::2] | codes[..., 1::2] << 4)


def fitting_block_size(columns: int, wanted: int) -> int:
    """The wanted size, halved until it divides the columns.

    Raises:
        UserError: even 16, the kernel's smallest, does not.
    """
    while columns % wanted:
        wanted //= 2
    if wanted < _SMALLEST_BLOCK:
        raise UserError(
            f"A matrix has {columns} columns, which don't divide into blocks of {_SMALLEST_BLOCK}. "
            "Export this model in fp32."
        )
    return wanted
