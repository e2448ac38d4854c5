"""Builds an ONNX graph node by node, its large tensors streamed into a data file beside it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
"""The domain of onnxruntime's fused operators."""
PRODUCER = "gpt-tasks"
"""what a graph of this project says made it"""
_OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
_IR_VERSION = 10
_INLINE_BYTES = 4096  # smaller tensors stay in the graph's file, where onnxruntime can reason about them
_ALIGNMENT = 4096  # a page: onnxruntime maps the data file into memory instead of copying it


def bytes_in_file(nbytes: int) -> int:
    """What a tensor takes, with the gap to the next one."""
    return nbytes if nbytes < _INLINE_BYTES else -(-nbytes // _ALIGNMENT) * _ALIGNMENT


class Graph:
    """An ONNX graph in the making.

    Values are strings, as in ONNX. Large tensors go to `<file>.onnx_data` as they are added, so
    that only one of them is in memory at a time.

    Use it as a context manager; `save` writes the graph itself.

    Args:
        shared: a graph in the same folder, whose tensors are used where this one's have the same name: they are
            stored once for both
    """

    def __init__(self, path: Path, shared: "Graph | None" = None) -> None:
        self.path = path
        self._shared = {} if shared is None else shared._initializers
        self._data_path = path.with_name(f"{path.name}_data")
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def __enter__(self) -> "Graph":
        self._data = self._data_path.open("wb")
        return self

    def __exit__(self, *exception: object) -> None:
        self._data.close()
        if self._data_path.stat().st_size == 0:
            self._data_path.unlink()

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """An input of the graph; a string in the shape is a dimension that is known at run time."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: int, shape: Sequence[int | str]) -> None:
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def tensor(self, name: str, values: np.ndarray) -> str:
        """A constant of the graph. The same name again must mean the same tensor, which is stored once."""
        if name not in self._initializers:
            if name in self._shared:
                self._initializers[name] = self._shared[name]
            elif values.nbytes < _INLINE_BYTES:
                self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
            else:
                self._initializers[name] = self._external(name, values)
        return name

    def view(self, name: str, of: str, shape: Sequence[int]) -> str:
        """A constant in another shape. A Reshape would do, but onnxruntime keeps its result beside what it was made of;
        this is the same place in the file, which both map."""
        if name not in self._initializers:
            tensor = TensorProto()
            tensor.CopyFrom(self._initializers[of])
            tensor.name = name
            tensor.ClearField("dims")
            tensor.dims.extend(shape)
            self._initializers[name] = tensor
        return name

    def half_tensor(self, name: str, values: np.ndarray) -> str:
        """A constant that is stored in fp16 and used in fp32: onnxruntime converts it when it loads the graph."""
        if name not in self._initializers:
            self.tensor(name, values.astype(np.float16))
            self.node("Cast", [name], f"{name}.float", to=TensorProto.FLOAT)
        return f"{name}.float"

    def overridable(self, name: str, default: np.ndarray, shape: Sequence[int | str] | None = None) -> str:
        """An input with a default: onnxruntime lists it apart from the inputs, so other loaders don't see it.

        Args:
            shape: what may be fed, where that is more than the default's
        """
        self.input(name, helper.np_dtype_to_tensor_dtype(default.dtype), default.shape if shape is None else shape)
        return self.tensor(name, default)

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        name: str,
        outputs: int | Sequence[str] = 1,
        domain: str = "",
        **attributes: object,
    ) -> str | list[str]:
        """Adds a node and returns its output's name, or their names where there are several.

        Args:
            inputs: value names, "" for an optional one that is left out
            name: names the node and, with one output, its value
            outputs: how many, or their names ("" for one that isn't wanted)
        """
        if isinstance(outputs, int):
            outputs = [name] if outputs == 1 else [f"{name}.{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), list(outputs), name, domain=domain, **attributes))
        return outputs[0] if len(outputs) == 1 else list(outputs)

    def fused(
        self, operator: str, inputs: Sequence[str], name: str, outputs: int | Sequence[str] = 1, **attributes: object
    ) -> str | list[str]:
        """A node of onnxruntime's own operators."""
        return self.node(operator, inputs, name, outputs, domain=MICROSOFT, **attributes)

    def save(self, metadata: dict[str, str]) -> None:
        used = {name for node in self._nodes for name in node.input}
        tensors = [tensor for name, tensor in self._initializers.items() if name in used]
        graph = helper.make_graph(self._nodes, self.path.stem, self._inputs, self._outputs, tensors)
        model = helper.make_model(graph, opset_imports=_OPSETS, ir_version=_IR_VERSION, producer_name=PRODUCER)
        helper.set_model_props(model, metadata)
        self.path.write_bytes(model.SerializeToString(deterministic=True))

    def _external(self, name: str, values: np.ndarray) -> TensorProto:
        offset = -(-self._data.tell() // _ALIGNMENT) * _ALIGNMENT
        self._data.seek(offset)
        self._data.write(np.ascontiguousarray(values).data)
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
            dims=values.shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", self._data_path.name), ("offset", offset), ("length", values.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor
