"""8-bit matrices multiplied with activations that are quantized on the fly, a scale a token."""

from collections.abc import Callable

import numpy as np

from compression.graph import Graph
from compression.linear import BlockInteger, Quantize
from compression.quantize_blocks import round_to_nearest, symmetric_grid
from gpt_tasks.processor import adds_8_bit_products_exactly

_MIDDLE = 128  # of 8-bit codes


class PerTokenInteger:
    """W8A8: y = (q · B) · s_token · s_column, where q are the 8-bit codes of x / s_token and s_token = max|x|.

    The usual dynamic quantization has one scale for all tokens at once. A language model's first
    token, and some others, have activations a hundred times the usual ("massive activations", Sun et
    al. 2024), and under their scale the rest rounds to nothing. With a scale for each token they harm
    only themselves. After the division all tokens lie between -1 and 1, and onnxruntime's fused
    product may quantize them together.

    Faster than blocks where many tokens are read at once, and as fast for a single one.

    On a processor without VNNI, where sums of signed weights' products overflow (see `processor`), the codes are
    unsigned: slower there, and exact.
    """

    def linear(self, graph: Graph, name: str, x: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        # One block a row: a scale an output.
        quantized = round_to_nearest(weight, symmetric_grid(weight, 8, block_size=weight.shape[1]))
        codes, zero_point = quantized.codes.reshape(weight.shape), np.uint8(_MIDDLE)
        if adds_8_bit_products_exactly():
            codes, zero_point = (codes.astype(np.int16) - _MIDDLE).astype(np.int8), np.int8(0)
        inputs = [
            graph.tensor(f"{name}.column_codes", np.ascontiguousarray(codes.T)),  # [in, out]
            graph.tensor(f"{name}.column_scales", quantized.grid.scales[:, 0]),  # [out]
            graph.tensor(f"column_zero_point.{zero_point.dtype}", np.array(zero_point)),
        ]
        magnitude = graph.node("Abs", [x], f"{name}.magnitude")
        axis = graph.tensor("last_axis", np.array([-1], np.int64))
        largest = graph.node("ReduceMax", [magnitude, axis], f"{name}.largest", keepdims=1)  # [..., 1]
        # A token of zeros alone (a norm of an unused embedding) must not be divided by zero.
        scale = graph.node("Max", [largest, graph.tensor("tiny", np.array([1e-9], np.float32))], f"{name}.token_scale")
        even = graph.node("Div", [x, scale], f"{name}.even")  # between -1 and 1
        product = graph.fused("DynamicQuantizeMatMul", [even, *inputs], f"{name}.product")
        y = graph.node("Mul", [product, scale], f"{name}.scaled")
        return y if bias is None else graph.node("Add", [y, graph.tensor(f"{name}.bias", bias)], f"{name}.output")


class MixedInteger(BlockInteger):
    """Per-token where that is good enough, blocks where it isn't; embedding and head in blocks.

    Args:
        quantize: for those in blocks
        in_blocks: says of a joined matrix's name whether it is one of those
    """

    def __init__(self, quantize: Quantize, in_blocks: Callable[[str], bool]) -> None:
        super().__init__(quantize)
        self._in_blocks = in_blocks
        self._per_token = PerTokenInteger()

    def linear(self, graph: Graph, name: str, x: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        if name == "head" or self._in_blocks(name):
            return super().linear(graph, name, x, weight, bias)
        return self._per_token.linear(graph, name, x, weight, bias)
