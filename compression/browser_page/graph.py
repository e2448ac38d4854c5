"""Rewrites what onnxruntime's WebAssembly build has no operator for."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_MISSING = "GatherBlockQuantized"


def for_browsers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, with the rows of a quantized embedding looked up and dequantized by standard operators.

    Args:
        model: a graph of this project's export; it is changed. Its weights may lie in another file.
    """
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        model.graph.node.extend(_looked_up(model.graph, node) if node.op_type == _MISSING else [node])
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)
    return model


def _looked_up(graph: onnx.GraphProto, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """(code - zero point) · scale of the rows `ids`: codes [rows, bytes] -> [batch, sequence, columns]"""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    bits, block = attributes["bits"], attributes["block_size"]
    codes, ids, scales, *zero_points = node.input
    prefix, last = (
        f"{node.output[0]}.browser",
        numpy_helper.from_array(np.array([-1]), f"{node.output[0]}.browser.last"),
    )
    graph.initializer.append(last)

    def number(name: str, value: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(value, f"{prefix}.{name}"))
        return f"{prefix}.{name}"

    def step(operator: str, inputs: list[str], name: str, **attributes: int) -> onnx.NodeProto:
        return helper.make_node(operator, inputs, [f"{prefix}.{name}"], f"{prefix}.{name}", **attributes)

    def unpacked(table: str, name: str, shape: list[int]) -> Iterator[onnx.NodeProto]:
        """Whole numbers as floats: {prefix}.{name}.values, of `shape` after batch and sequence."""
        yield step("Gather", [table, ids], f"{name}.packed", axis=0)
        yield step("Cast", [f"{prefix}.{name}.packed"], f"{name}.bytes", to=TensorProto.FLOAT)
        if bits == 8:
            both = f"{prefix}.{name}.bytes"
        else:  # two in a byte, the first in its lower half
            sixteen = number(f"{name}.sixteen", np.array(16, np.float32))
            yield step("Div", [f"{prefix}.{name}.bytes", sixteen], f"{name}.shifted")
            yield step("Floor", [f"{prefix}.{name}.shifted"], f"{name}.high")
            yield step("Mul", [f"{prefix}.{name}.high", sixteen], f"{name}.upper")
            yield step("Sub", [f"{prefix}.{name}.bytes", f"{prefix}.{name}.upper"], f"{name}.low")
            for half in ("low", "high"):
                yield step("Unsqueeze", [f"{prefix}.{name}.{half}", last.name], f"{name}.{half}.column")
            yield step(
                "Concat", [f"{prefix}.{name}.{half}.column" for half in ("low", "high")], f"{name}.pairs", axis=-1
            )
            both = f"{prefix}.{name}.pairs"
        yield step("Reshape", [both, number(f"{name}.shape", np.array([0, 0, *shape]))], f"{name}.values")

    yield from unpacked(codes, "codes", [-1, block])
    middle = number("middle", np.array(1 << (bits - 1), np.float32))
    if zero_points:
        yield from unpacked(zero_points[0], "zero_points", [-1, 1])
        # Packed two in a byte, an odd number of them has one too many.
        size = next(tensor.dims[1] for tensor in graph.initializer if tensor.name == codes)
        blocks = size * 8 // bits // block
        begin, end, axis = (number(n, np.array([v])) for n, v in (("begin", 0), ("end", blocks), ("axis", 2)))
        yield step("Slice", [f"{prefix}.zero_points.values", begin, end, axis], "zero_points.all")
        middle = f"{prefix}.zero_points.all"
    yield step("Sub", [f"{prefix}.codes.values", middle], "centred")
    yield step("Gather", [scales, ids], "scales", axis=0)
    yield step("Unsqueeze", [f"{prefix}.scales", last.name], "scales.column")
    yield step("Mul", [f"{prefix}.centred", f"{prefix}.scales.column"], "blocks")
    shape = number("shape", np.array([0, 0, -1]))
    yield helper.make_node("Reshape", [f"{prefix}.blocks", shape], node.output, node.name)
