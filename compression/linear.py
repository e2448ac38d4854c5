"""How a matrix of the model is stored and multiplied in the graph: one class a number format.

A format writes the linear layers and the embedding with its head; what lies between them
(norms, attention, activations) is in fp32 in every format and belongs to `decoder_graph`.
"""

from typing import Protocol

import numpy as np

from compression.graph import Graph
from compression.quantize_blocks import round_to_nearest
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


class BlockInteger:
    """Weights in integer blocks, multiplied as integers (`MatMulNBits`), round-to-nearest.

    The activations are quantized on the fly, a scale for each block of each token, which is why
    massive activations do no harm here (accuracy_level 4 asks for that).

    Args:
        block_size, head_block_size: weights with one scale in the layers, and in embedding and head;
            halved where a matrix's columns don't divide by them
    """

    def __init__(self, bits: int, block_size: int, head_block_size: int) -> None:
        self.bits = bits
        self.block_size = block_size
        self.head_block_size = head_block_size

    def linear(self, graph: Graph, name: str, x: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        return self._product(graph, name, x, self._store(graph, name, weight, self.block_size), weight.shape, bias)

    def embedding(self, graph: Graph, name: str, ids: str, weight: np.ndarray) -> str:
        codes, scales, block_size = self._store(graph, name, weight, self.head_block_size)
        # The table is kept as the head's product wants it, [rows, blocks, block]; looking up wants [rows, columns].
        table = graph.node("Reshape", [codes, graph.tensor(f"{name}.shape", np.array(weight.shape))], f"{name}.table")
        return graph.fused(
            "GatherBlockQuantized",
            [table, ids, scales],
            f"{name}.rows",
            bits=self.bits,
            block_size=block_size,
            gather_axis=0,
            quantize_axis=1,
        )

    def tied_head(self, graph: Graph, name: str, x: str, embedding: str, weight: np.ndarray) -> str:
        stored = self._store(graph, embedding, weight, self.head_block_size)
        return self._product(graph, name, x, stored, weight.shape, None)

    def _store(self, graph: Graph, name: str, weight: np.ndarray, block_size: int) -> tuple[str, str, int]:
        """Names of codes and scales, and the block size that fits."""
        block_size = fitting_block_size(weight.shape[1], block_size)
        blocks = round_to_nearest(weight, self.bits, block_size)
        return graph.tensor(f"{name}.codes", blocks.codes), graph.tensor(f"{name}.scales", blocks.scales), block_size

    def _product(
        self,
        graph: Graph,
        name: str,
        x: str,
        stored: tuple[str, str, int],
        shape: tuple[int, ...],
        bias: np.ndarray | None,
    ) -> str:
        codes, scales, block_size = stored
        inputs = [x, codes, scales]
        if bias is not None:
            inputs += ["", "", graph.tensor(f"{name}.bias", bias)]
        return graph.fused(
            "MatMulNBits",
            inputs,
            f"{name}.product",
            N=shape[0],
            K=shape[1],
            bits=self.bits,
            block_size=block_size,
            accuracy_level=4,
        )


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
