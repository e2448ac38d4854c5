"""Whether a model's matrices were made sparse, which a training on top must respect. Needs no PyTorch."""

import numpy as np

from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError

_LEAST_ZEROS = 0.2
"""the part of zeros that makes a matrix a sparse one: a dense one that comes from 4 bits has a tenth at most"""


def is_sparse(weight: np.ndarray) -> bool:
    return (weight == 0).mean() >= _LEAST_ZEROS


def is_matrix_of_a_block(name: str) -> bool:
    return name.startswith("blocks.") and "norm" not in name and name.endswith(".weight")


def require_dense(model: Model) -> None:
    """
    Raises:
        UserError: sparse matrices, whose zeros a low-rank correction would fill.
    """
    if any(is_matrix_of_a_block(name) and is_sparse(model.weights[name]) for name in model.weights):
        raise UserError(
            f"{model.name} is sparse, and a LoRA correction is dense: added to the weights, it would fill their zeros. "
            "Train with --method full (in a recipe, method: full and no adapter), which keeps them."
        )
