"""Tensors of an ONNX file: how large they are, what is in them, and which share their place."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

_BITS = {TensorProto.INT4: 4, TensorProto.UINT4: 4}


def tensor_bytes(tensor: TensorProto) -> int:
    bits = _BITS.get(tensor.data_type) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(np.prod(tensor.dims, dtype=np.int64)) * bits // 8


def tensor_values(tensor: TensorProto, folder: Path) -> np.ndarray:
    """The tensor itself stays as it is, so that its values don't stay in memory with it.

    Args:
        folder: the graph's, where the file lies that a large tensor is kept in
    """
    if uses_external_data(tensor):
        tensor = TensorProto.FromString(tensor.SerializeToString())
        load_external_data_for_tensor(tensor, str(folder))
    return numpy_helper.to_array(tensor)


def stored_once(tensors: Mapping[str, TensorProto]) -> dict[str, TensorProto]:
    """Without those that share their place in a file with one before: the same bytes in another shape."""
    places: set[tuple] = set()
    kept = {}
    for name, tensor in tensors.items():
        place = tuple(sorted((entry.key, entry.value) for entry in tensor.external_data))
        if not place or place not in places:
            places.add(place)
            kept[name] = tensor
    return kept
