"""8-bit matrices multiplied with activations that are quantized on the fly, a scale a token."""

import numpy as np

from compression.graph import Graph
from compression.quantize_blocks import round_to_nearest

_MOST = 127


class PerTokenInteger:
    """W8A8: y = (q · B) · s_token · s_column, q = round(x / s_token) + 128, s_token = max|x| / 127.

    The usual dynamic quantization (`DynamicQuantizeLinear`) has one scale for all tokens at once. A
    language model's first token, and some others, have activations a hundred times the usual
    (Sun et al. 2024, "Massive activations"), and under their scale the rest rounds to nothing. With a
    scale for each token they harm only themselves, and no token's result depends on its neighbours.

    Faster than blocks where many tokens are read at once, and as fast for a single one.
    """

    def linear(self, graph: Graph, name: str, x: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        columns = weight.shape[1]
        quantized = round_to_nearest(weight, 8, block_size=columns)  # one block a row: a scale for each output
        codes = quantized.codes.reshape(weight.shape).astype(np.int16) - 128
        codes = graph.tensor(f"{name}.codes", codes.T.astype(np.int8))  # [in, out]
        scales = graph.tensor(f"{name}.scales", quantized.scales[:, 0])  # [out]

        axis = graph.tensor("last_axis", np.array([-1], np.int64))
        size = graph.node("Abs", [x], f"{name}.magnitude")
        largest = graph.node("ReduceMax", [size, axis], f"{name}.largest", keepdims=1)  # [..., 1]
        step = graph.tensor("eighth_bit", np.array([1 / _MOST], np.float32))
        token_scale = graph.node("Mul", [largest, step], f"{name}.token_scale")  # [..., 1]
        normed = graph.node("Div", [x, token_scale], f"{name}.in_range")  # -127 to 127
        one, middle = (
            graph.tensor("unit_scale", np.array(1, np.float32)),
            graph.tensor("middle", np.array(128, np.uint8)),
        )
        codes_of_x = graph.node("QuantizeLinear", [normed, one, middle], f"{name}.input_codes")
        product = graph.fused("MatMulIntegerToFloat", [codes_of_x, codes, one, scales, middle], f"{name}.product")
        y = graph.node("Mul", [product, token_scale], f"{name}.scaled")
        return y if bias is None else graph.node("Add", [y, graph.tensor(f"{name}.bias", bias)], f"{name}.output")
