"""What the bytes of an ONNX graph are spent on."""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from compression.onnx_tensors import stored_once, tensor_bytes


def sizes_by_kind(path: Path) -> dict[str, int]:
    """Bytes of the graph's tensors, summed over layers: "feed_forward.down.codes" -> bytes, largest first."""
    sizes: dict[str, int] = defaultdict(int)
    for name, tensor in _stored(path).items():
        sizes[re.sub(r"^blocks\.\d+\.", "", name)] += tensor_bytes(tensor)
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def duplicated_embedding(path: Path, vocabulary_size: int, hidden_size: int) -> list[str]:
    """The names of tensors that hold the vocabulary's table, if there is more than one of them.

    A tied embedding is one table; many exporters store it twice, as the embedding and as the head.
    """
    tables = [
        name
        for name, tensor in _stored(path).items()
        if vocabulary_size in tensor.dims and 2 * np.prod(tensor.dims) >= vocabulary_size * hidden_size
    ]
    return tables if len(tables) > 1 else []


def _stored(path: Path) -> dict[str, TensorProto]:
    graph = onnx.load(path, load_external_data=False).graph
    return stored_once({tensor.name: tensor for tensor in graph.initializer})
