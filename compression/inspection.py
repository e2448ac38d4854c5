"""Explains an ONNX model that somebody already has: what it is made of, what is wrong with it, what an export gains."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto
from onnx.external_data_helper import uses_external_data

from compression.block_settings import BlockSettings
from compression.graph import PRODUCER
from compression.onnx_tensors import stored_once, tensor_bytes, tensor_values
from compression.precisions import PRECISIONS, estimated_bytes
from gpt_tasks.backbone.architectures import read_config
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.config import DecoderConfig

_LARGE = 10**6  # bytes from which a tensor is looked at for a double
_FUSED = ("GroupQueryAttention", "MultiHeadAttention", "Attention", "DecoderMaskedMultiHeadAttention")
_PER_TENSOR = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
_LAYER = re.compile(r"(?:^|(?<=[./]))(layers?|h|blocks?)[./]\d+(?=[./])")
_OLD_OPSET = 14
_NODES_A_LAYER = 11  # of this project's graphs, about


@dataclass(frozen=True)
class Finding:
    problem: str
    gain: str
    """of exporting the model again"""


@dataclass(frozen=True)
class Inspection:
    file: str
    size_mb: float
    """10^6 bytes, weights in files beside it included"""
    opsets: dict[str, int]
    producer: str
    inputs: dict[str, list[str | int]]
    outputs: dict[str, list[str | int]]
    nodes: int
    operators: dict[str, int]
    """most frequent first"""
    sizes_by_kind: dict[str, int]
    """bytes, summed over layers, largest first"""
    sizes_by_type: dict[str, int]
    """bytes of a number format"""
    duplicates: list[list[str]]
    """tensors with the same content, as they are or transposed"""
    has_cache: bool
    findings: list[Finding] = field(default_factory=list)


def find_graphs(path: Path) -> list[Path]:
    """The .onnx files that a name stands for: itself, or those of a folder and of the folders in it.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        return [path]
    graphs = sorted(path.rglob("*.onnx")) if path.is_dir() else []
    if not graphs:
        raise UserError(
            f"{path} is no .onnx file, and no folder with one. Name a file, or a folder of an exported model."
        )
    return graphs


def inspect(graph: Path) -> Inspection:
    """
    Raises:
        UserError: not an ONNX graph, or its weights are missing.
    """
    try:
        model = onnx.load(graph, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise UserError(f"{graph} can't be read as an ONNX graph ({error}). It may be damaged or cut off.") from error
    if not model.graph.node:
        raise UserError(f"{graph} holds no ONNX graph: it has no operators.")
    tensors = dict(_tensors(model.graph))
    _require_data(graph, tensors)
    used_by = {name: node.op_type for node in _nodes(model.graph) for name in node.input}
    kinds: dict[str, int] = defaultdict(int)
    types: dict[str, int] = defaultdict(int)
    for name, tensor in stored_once(tensors).items():
        kinds[_kind(name, tensor, used_by.get(name, ""))] += tensor_bytes(tensor)
        types[TensorProto.DataType.Name(tensor.data_type).lower()] += tensor_bytes(tensor)
    operators = Counter(node.op_type for node in _nodes(model.graph))
    inputs = {value.name: _shape(value) for value in model.graph.input if value.name not in tensors}
    found = Inspection(
        file=str(graph),
        size_mb=round((graph.stat().st_size + sum(f.stat().st_size for f in _data_files(graph, tensors))) / 10**6, 1),
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=inputs,
        outputs={value.name: _shape(value) for value in model.graph.output},
        nodes=sum(operators.values()),
        operators=dict(operators.most_common()),
        sizes_by_kind=dict(sorted(kinds.items(), key=lambda item: -item[1])),
        sizes_by_type=dict(sorted(types.items(), key=lambda item: -item[1])),
        duplicates=_duplicates(graph, tensors),
        has_cache=any("past" in name for name in inputs),
    )
    found.findings.extend(_findings(found, tensors, _config_beside(graph)))
    return found


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Those of branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Weights, whether they are initializers or constants in the graph."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.output[0], attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors(attribute.g)


def _location(tensor: TensorProto) -> str:
    return next(entry.value for entry in tensor.external_data if entry.key == "location")


def _data_files(graph: Path, tensors: Mapping[str, TensorProto]) -> list[Path]:
    names = {_location(tensor) for tensor in tensors.values() if uses_external_data(tensor)}
    return [graph.parent / name for name in sorted(names)]


def _require_data(graph: Path, tensors: Mapping[str, TensorProto]) -> None:
    for file in _data_files(graph, tensors):
        if not file.is_file():
            raise UserError(f"{graph} keeps its weights in {file.name}, which is not beside it. Put it there.")


def _kind(name: str, tensor: TensorProto, operator: str) -> str:
    """A tensor's name without its layer's number; where an exporter made the name up, what it is used for."""
    if re.search(r"onnx::|_\d{3,}$|^\d+$|^/", name):
        return f"{operator or 'unused'} {list(tensor.dims)}"
    return _LAYER.sub(r"\1.*", name)


def _shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _duplicates(graph: Path, tensors: Mapping[str, TensorProto]) -> list[list[str]]:
    by_size: dict[tuple, list[str]] = defaultdict(list)
    for name, tensor in stored_once(tensors).items():
        if tensor_bytes(tensor) >= _LARGE:
            by_size[tensor.data_type, *sorted(tensor.dims)].append(name)
    doubles = []
    for alike in by_size.values():
        remaining = alike
        while len(remaining) > 1:
            first, *others = remaining
            values = tensor_values(tensors[first], graph.parent)
            same = [name for name in others if _equal(values, tensor_values(tensors[name], graph.parent))]
            if same:
                doubles.append([first, *same])
            remaining = [name for name in others if name not in same]
    return doubles


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return any(np.array_equal(one, view) for view in (other, other.T) if view.shape == one.shape)


def _config_beside(graph: Path) -> dict:
    folder = next((f for f in (graph.parent, graph.parent.parent) if (f / "config.json").is_file()), None)
    return read_json(folder / "config.json") if folder else {}


def _own_config(config: Mapping) -> DecoderConfig | None:
    try:
        return read_config(config)
    except UserError:
        return None  # another family, or nothing that says: then no sizes can be promised


def _findings(found: Inspection, tensors: Mapping[str, TensorProto], config: Mapping) -> Iterator[Finding]:
    if found.producer.startswith(PRODUCER):
        return
    ours = _own_config(config)
    if not found.has_cache and "logits" in found.outputs and len(found.outputs["logits"]) == 3 and (ours or not config):
        yield Finding(
            "no inputs for keys and values of the tokens before (no KV cache)",
            "each new token reads the whole text again; with a cache it reads one token",
        )
    if found.duplicates:
        doubled = sum(tensor_bytes(tensors[names[0]]) * (len(names) - 1) for names in found.duplicates)
        yield Finding(
            f"{doubled / 10**6:.1f} MB are stored twice ({', '.join(found.duplicates[0])})",
            "a tied embedding is stored once",
        )
    if ours or not config:  # other families are exported with such activations again, where their check allows it
        yield from _scale_findings(found)
    yield from _format_findings(found, ours)
    if ours is not None and not any(operator in found.operators for operator in _FUSED):
        yield Finding(
            f"attention in single steps: {found.nodes} operators; this project's graph has about "
            f"{ours.layers * _NODES_A_LAYER}",
            "fused attention (GroupQueryAttention) with rotary positions and a cache that is not copied",
        )
    opset = found.opsets.get("ai.onnx", 0)
    if opset < _OLD_OPSET:
        yield Finding(f"opset {opset}", "a current opset, which newer runtimes optimize")


def _scale_findings(found: Inspection) -> Iterator[Finding]:
    if any(operator in found.operators for operator in _PER_TENSOR):
        yield Finding(
            "activations in 8 bits with one scale a tensor",
            "a few massive activations make that scale coarse, which wrecks small GPTs (perplexity 1.5 to 8 times); "
            "int8 here has a scale a token",
        )


def _format_findings(found: Inspection, ours: DecoderConfig | None) -> Iterator[Finding]:
    floats = sum(size for name, size in found.sizes_by_type.items() if name in ("float", "float16", "bfloat16"))
    total = sum(found.sizes_by_type.values())
    if floats < 0.5 * total or floats < 20 * 10**6:
        return
    if ours is not None:
        sizes = {name: estimated_bytes(ours, name, BlockSettings()) / 10**6 for name in ("int8", "int4")}
        gain = ", ".join(f"{name} about {size:.0f} MB" for name, size in sizes.items())
    else:
        weights = floats / (4 if found.sizes_by_type.get("float", 0) > floats / 2 else 2)
        gain = ", ".join(
            f"{name} about {weights * PRECISIONS[name].bits_per_weight / 8e6:.0f} MB" for name in ("int8", "int4")
        )
    yield Finding(f"{floats / 10**6:.0f} MB of weights in floating point", gain)
