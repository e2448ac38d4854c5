"""Means of what several trainings left."""

from collections.abc import Mapping, Sequence

import numpy as np


def mean_tensors(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Tensor by tensor, computed in fp32, in the first one's type; all have the same names and shapes."""
    return {
        name: np.mean([part[name].astype(np.float32) for part in parts], axis=0).astype(tensor.dtype)
        for name, tensor in parts[0].items()
    }


def shapes(tensors: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Must be equal for `mean_tensors`."""
    return {name: tensor.shape for name, tensor in tensors.items()}
