"""Ways to quantize a graph with onnxruntime's quantizers, from the fastest to the safest."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

from gpt_tasks.processor import adds_8_bit_products_exactly

LARGEST_IN_ONE_FILE = 2 * 10**9
"""Bytes of a graph with its weights, above which what is made of it has its weights in a file beside it, as protobuf
wants it; see `with_data`."""
_FAST_BLOCKS = 4  # accuracy_level: activations in 8 bits too, which is what is fast on a CPU


@dataclass(frozen=True)
class Scheme:
    name: str
    description: str
    quantize: Callable[[Path, Path], None]
    """from a graph in fp32 to another file"""


def _dynamic(source: Path, out: Path, *, per_channel: bool, operators: list[str] | None, keep_wide: bool) -> None:
    """Weights in 8 bits; activations in 8 bits with one scale a tensor, found as it runs.

    Args:
        operators: to quantize; None: all that can be
        keep_wide: matrices that read a feed-forward's inner activations stay as they are
    """
    graph = onnx.load(source).graph
    quantize_dynamic(
        source,
        out,
        use_external_data_format=_large(source),
        op_types_to_quantize=operators,
        per_channel=per_channel,
        # Without VNNI the sum of two products of a signed weight overflows.
        weight_type=QuantType.QInt8 if adds_8_bit_products_exactly() else QuantType.QUInt8,
        nodes_to_exclude=_reading_wide(graph) if keep_wide else None,
        # The fused operators have no shape inference, so that a tensor's type wouldn't be found by itself.
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def _reading_wide(graph: onnx.GraphProto) -> list[str]:
    """Matrices with more rows than columns [in, out]: they read what a feed-forward's inner layer gives, which is where
    a few activations are hundreds of times the others (Sun et al. 2024, "Massive Activations")."""
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm")
        and node.input[1] in shapes
        and len(shapes[node.input[1]]) == 2
        and _in_size(node, shapes[node.input[1]]) > _out_size(node, shapes[node.input[1]])
    ]


def _transposed(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _in_size(node: onnx.NodeProto, shape: list[int]) -> int:
    return shape[1] if _transposed(node) else shape[0]


def _out_size(node: onnx.NodeProto, shape: list[int]) -> int:
    return shape[0] if _transposed(node) else shape[1]


def _blocks(source: Path, out: Path, *, bits: int, block: int, keep_wide: bool = False) -> None:
    """Weights in blocks of one column, each with its own scale and zero point; see `_dynamic`."""
    settings = DefaultWeightOnlyQuantConfig(
        block_size=block, is_symmetric=False, accuracy_level=_FAST_BLOCKS, bits=bits
    )
    model = onnx.load(source)
    kept = _reading_wide(model.graph) if keep_wide else []
    quantizer = MatMulNBitsQuantizer(model, nodes_to_exclude=kept, algo_config=settings)
    quantizer.process()
    quantizer.model.save_model_to_file(str(out), use_external_data_format=_large(source))


def _large(source: Path) -> bool:
    return sum(file.stat().st_size for file in with_data(source)) > LARGEST_IN_ONE_FILE


def with_data(graph: Path) -> list[Path]:
    """The files of a graph: itself, and its weights where they lie apart."""
    return [
        path
        for path in (graph, graph.with_name(f"{graph.name}_data"), graph.with_name(f"{graph.name}.data"))
        if path.is_file()
    ]


def _wide_in_8_bit_blocks(first: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    """What `first` leaves in fp32 comes into 8-bit blocks."""

    def quantize(source: Path, out: Path) -> None:
        part = out.with_suffix(".part")
        first(source, part)
        _blocks(part, out, bits=8, block=32)
        for file in with_data(part):
            file.unlink()

    return quantize


SCHEMES = {
    "int8": (
        Scheme(
            "dynamic",
            "all operators, one scale a tensor",
            lambda source, out: _dynamic(source, out, per_channel=False, operators=None, keep_wide=False),
        ),
        Scheme(
            "dynamic_per_channel",
            "all operators, weights with a scale a channel",
            lambda source, out: _dynamic(source, out, per_channel=True, operators=None, keep_wide=False),
        ),
        Scheme(
            "matrices_per_channel",
            "matrix products alone, weights with a scale a channel",
            lambda source, out: _dynamic(source, out, per_channel=True, operators=["MatMul", "Gemm"], keep_wide=False),
        ),
        Scheme(
            "outliers_in_blocks",
            "as before, but matrices that read a feed-forward's inner activations in 8-bit blocks",
            _wide_in_8_bit_blocks(
                lambda source, out: _dynamic(
                    source, out, per_channel=True, operators=["MatMul", "Gemm"], keep_wide=True
                )
            ),
        ),
        Scheme("blocks_32", "8-bit blocks of 32 weights", lambda source, out: _blocks(source, out, bits=8, block=32)),
    ),
    "int4": (
        Scheme("blocks_64", "4-bit blocks of 64 weights", lambda source, out: _blocks(source, out, bits=4, block=64)),
        Scheme("blocks_32", "4-bit blocks of 32 weights", lambda source, out: _blocks(source, out, bits=4, block=32)),
        Scheme("blocks_16", "4-bit blocks of 16 weights", lambda source, out: _blocks(source, out, bits=4, block=16)),
        Scheme(
            "outliers_in_8_bits",
            "4-bit blocks of 16, but matrices that read a feed-forward's inner activations in 8-bit blocks",
            _wide_in_8_bit_blocks(lambda source, out: _blocks(source, out, bits=4, block=16, keep_wide=True)),
        ),
    ),
}
"""Precision -> what is tried for it, in this order, until one keeps its limit"""
