"""What the bytes of an ONNX graph are spent on."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

_BITS = {TensorProto.INT4: 4, TensorProto.UINT4: 4}


def sizes_by_kind(path: Path) -> dict[str, int]:
    """Bytes of the graph's tensors, summed over layers: "feed_forward.down.codes" -> bytes, largest first."""
    sizes: dict[str, int] = defaultdict(int)
    for tensor in stored_once(onnx.load(path, load_external_data=False).graph.initializer):
        sizes[re.sub(r"^blocks\.\d+\.", "", tensor.name)] += tensor_bytes(tensor)
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def duplicated_embedding(path: Path, vocabulary_size: int, hidden_size: int) -> list[str]:
    """The names of tensors that hold the vocabulary's table, if there is more than one of them.

    A tied embedding is one table; many exporters store it twice, as the embedding and as the head.
    """
    tables = [
        tensor.name
        for tensor in stored_once(onnx.load(path, load_external_data=False).graph.initializer)
        if vocabulary_size in tensor.dims and 2 * np.prod(tensor.dims) >= vocabulary_size * hidden_size
    ]
    return tables if len(tables) > 1 else []


def stored_once(tensors: Iterable[TensorProto]) -> Iterator[TensorProto]:
    """Without those that share their place in a file with one before: the same bytes in another shape."""
    places: set[tuple] = set()
    for tensor in tensors:
        place = tuple(sorted((entry.key, entry.value) for entry in tensor.external_data))
        if not place or place not in places:
            places.add(place)
            yield tensor


def tensor_bytes(tensor: TensorProto) -> int:
    bits = _BITS.get(tensor.data_type) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(np.prod(tensor.dims, dtype=np.int64)) * bits // 8
