"""Variants of the default model whose training comes with the project, as a correction of a few MB."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from compression.derived_model import derived
from compression.pruning.sparse_model import require_dense
from gpt_tasks.backbone.adapter import read_pairs
from gpt_tasks.backbone.architectures import adapter_modules
from gpt_tasks.backbone.checkpoint import write_checkpoint
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError
from gpt_tasks.home import whole_folder

CORRECTIONS = Path(__file__).resolve().parents[1] / "assets" / "corrections"


def shipped_correction(name: str) -> Path:
    """The folder of a LoRA correction, in PEFT's format.

    Args:
        name: of one that comes with the project, or a folder

    Raises:
        UserError: neither.
    """
    for folder in (CORRECTIONS / name, Path(name).expanduser()):
        if folder.is_dir():
            return folder
    shipped = ", ".join(sorted(path.name for path in CORRECTIONS.iterdir())) if CORRECTIONS.is_dir() else "none"
    raise UserError(f"There is no correction {name}: it is neither a folder nor one that comes along ({shipped}).")


def apply_correction(model: Model, correction: Path, out: Path) -> None:
    """Adds a LoRA correction to a model's weights, and writes the checkpoint.

    Raises:
        UserError: a correction of another model, or a sparse model, whose zeros it would fill.
    """
    require_dense(model)
    tensors = with_correction(model, *read_pairs(correction, model.hugging_face_config), str(correction))
    with whole_folder(out) as folder:
        write_checkpoint(derived(model, correction.name, model.config, tensors), folder)


def with_correction(
    model: Model,
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray] | None],
    scale: float,
    origin: str = "the correction",
) -> dict[str, np.ndarray]:
    """A model's weights with a low-rank correction added: W + (α / r) B A.

    Args:
        pairs: of modules, by their names in the transformers model, A [rank, in] and B [out, rank]
        scale: α / r

    Raises:
        UserError: a correction of another model.
    """
    tensors = {name: model.weights[name] for name in model.weights}
    for theirs, ours in adapter_modules(model.hugging_face_config).items():
        if pairs.get(theirs) is None:
            continue
        down, up = pairs[theirs]  # [rank, in], [out, rank]
        rows = np.cumsum([len(tensors[f"{name}.weight"]) for name in ours])
        for name, part in zip(ours, np.split(up, rows[:-1]), strict=True):
            weight = tensors[f"{name}.weight"]
            if weight.shape != (len(part), down.shape[1]):
                raise UserError(f"{origin} doesn't fit {name} of {model.name}: it was made for another model.")
            tensors[f"{name}.weight"] = weight + scale * (part @ down)
    return tensors
