"""LoRA adapters in PEFT's format, as the encoding graph takes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from safetensors import SafetensorError
from safetensors.numpy import load_file

from gpt_tasks.backbone.architectures import adapter_modules, read_config
from gpt_tasks.backbone.encoder_interface import lora_inputs
from gpt_tasks.backbone.joined_matrices import joined_matrices
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.shapes import tensor_shape

ADAPTER_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
PREFIX = "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """Matrices by the encoding graph's input names; an argument of an encoding call, shared by all who make one."""

    matrices: Mapping[str, np.ndarray]

    def bound(self, scales: Mapping[str, np.ndarray]) -> dict[str, onnxruntime.OrtValue]:
        """For a graph whose channels were scaled (`ScaledChannels`): x / s stands where x was, so A becomes s A.

        Args:
            scales: joined layer -> s, [in]
        """
        values = dict(self.matrices)
        for layer, scale in scales.items():
            name = lora_inputs(layer)[0]
            if name in values:
                values[name] = values[name] * scale[:, None]
        return {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value))
            for name, value in values.items()
        }


def read_adapter(folder: Path, hugging_face_config: Mapping) -> Adapter:
    """A folder in PEFT's format.

    Args:
        hugging_face_config: of the backbone that it is for

    Raises:
        UserError: not an adapter, or one for another model.
    """
    pairs, scale = read_pairs(folder, hugging_face_config)
    return Adapter(fuse(pairs, hugging_face_config, scale, str(folder)))


def read_pairs(
    folder: Path, hugging_face_config: Mapping
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray] | None], float]:
    """A folder in PEFT's format: of each module that an adapter may correct, by its name in the transformers model,
    A [rank, in] and B [out, rank] or None; and alpha / rank.

    Raises:
        UserError: not an adapter.
    """
    settings = read_json(folder / CONFIG_FILE)
    try:
        tensors = load_file(folder / ADAPTER_FILE)
        scale = settings["lora_alpha"] / settings["r"]
    except (SafetensorError, OSError, KeyError) as error:
        raise UserError(f"{folder} is not a LoRA adapter in PEFT's format ({error}).") from error
    return {module: _pair(tensors, module) for module in adapter_modules(hugging_face_config)}, scale


def _pair(tensors: Mapping[str, np.ndarray], module: str) -> tuple[np.ndarray, np.ndarray] | None:
    """A [rank, in] and B [out, rank] as PEFT keeps them, or None where the module has none."""
    name = f"{PREFIX}{module}.lora_"
    if f"{name}A.weight" not in tensors:
        return None
    return tuple(tensors[f"{name}{part}.weight"].astype(np.float32) for part in "AB")


def fuse(
    modules: Mapping[str, tuple[np.ndarray, np.ndarray] | None],
    hugging_face_config: Mapping,
    scale: float,
    origin: str = "the adapter",
) -> dict[str, np.ndarray]:
    """A module's pair for each of its parts in the joined layer: the A side by side, the B in a block diagonal.

    Where one module is all of a joined layer (GPT-2's `c_attn`), its pair is taken as it is.

    Args:
        modules: the transformers model's names -> A [rank, in], B [out, rank]
        scale: alpha / rank; goes into B

    Raises:
        UserError: a pair whose shapes don't fit the model, or none at all.
    """
    config = read_config(hugging_face_config)
    pairs: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {
        ours: modules[theirs]
        for theirs, ours in adapter_modules(hugging_face_config).items()
        if modules.get(theirs) is not None
    }
    fused = {}
    for layer in range(config.layers):
        for joined, parts in joined_matrices(config).items():
            names = tuple(f"blocks.{layer}.{part}" for part in parts)
            found = {ours: pair for ours, pair in pairs.items() if set(ours) <= set(names)}
            if not found:
                continue
            shapes = {name: tensor_shape(config, f"{name}.weight") for name in names}
            outs = {name: shape[0] for name, shape in shapes.items()}
            in_size = shapes[names[0]][1]
            rank = sum(len(a) for a, _ in found.values())
            a, b = np.zeros((in_size, rank), np.float32), np.zeros((rank, sum(outs.values())), np.float32)
            row = 0
            for ours, (down, up) in found.items():
                begin = sum(outs[name] for name in names[: names.index(ours[0])])
                width = sum(outs[name] for name in ours)
                if down.shape[1] != in_size or up.shape != (width, len(down)):
                    raise UserError(
                        f"{origin} has matrices of {down.shape} and {up.shape} for {ours[0]}, which needs "
                        f"{in_size} inputs and {width} outputs: it was made for another model."
                    )
                a[:, row : row + len(down)] = down.T
                b[row : row + len(down), begin : begin + width] = up.T * scale
                row += len(down)
            name_a, name_b = lora_inputs(f"blocks.{layer}.{joined}")
            fused[name_a], fused[name_b] = a, b
    if not fused:
        raise UserError(f"{origin} has no matrix for any layer of this model: it was made for another one.")
    return fused
