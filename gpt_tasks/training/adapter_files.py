"""A LoRA adapter in PEFT's format, under the module names of the transformers model: written, and gone on from."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from gpt_tasks.backbone.adapter import ADAPTER_FILE, CONFIG_FILE, PREFIX
from gpt_tasks.backbone.json_files import write_json
from gpt_tasks.errors import UserError
from gpt_tasks.training.methods import Lora


def lora_matrices(tuned: Lora, modules: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The transformers model's names -> A [rank, in], B [out, rank] in fp32.

    Args:
        modules: those that were trained; see `adapter_modules`
    """
    matrices = {}
    for theirs, ours in modules.items():
        layers = [tuned.layers[name] for name in ours]
        up = torch.cat([layer.up.detach() for layer in layers])  # of layers that share A: one below the other
        matrices[theirs] = layers[0].down.detach().numpy(), up.numpy()
    return matrices


def go_on_from(
    tuned: Lora,
    modules: Mapping[str, tuple[str, ...]],
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray] | None],
    scale: float,
    origin: Path,
) -> None:
    """Begins with an adapter that was trained before.

    Args:
        modules: those that are trained; see `adapter_modules`
        pairs, scale: the adapter's, see `read_pairs`
        origin: where it comes from, for messages

    Raises:
        UserError: an adapter of another rank, of other modules or for another model.
    """
    for theirs, ours in modules.items():
        layers = [tuned.layers[name] for name in ours]
        pair = pairs.get(theirs)
        shapes = layers[0].down.shape, (sum(layer.up.shape[0] for layer in layers), tuned.rank)
        if pair is None or (pair[0].shape, pair[1].shape) != shapes or scale != layers[0].scale:
            raise UserError(
                f"{origin} can't be gone on from: its matrices of {theirs} are not those of rank {tuned.rank} for this "
                "model. Give the model and the --rank that it was trained with."
            )
        with torch.no_grad():
            layers[0].down.copy_(torch.from_numpy(pair[0]))
            rows = [layer.up.shape[0] for layer in layers]
            for layer, part in zip(layers, torch.from_numpy(pair[1]).split(rows), strict=True):
                layer.up.copy_(part)


def write_adapter(
    folder: Path, tuned: Lora, modules: Mapping[str, tuple[str, ...]], base_model: str, fan_in_fan_out: bool
) -> None:
    """adapter_model.safetensors, in fp16, and adapter_config.json.

    Args:
        base_model: the name of the model that it was trained on
        fan_in_fan_out: the base's layers keep [in, out] (GPT-2)
    """
    tensors = {}
    for module, pair in lora_matrices(tuned, modules).items():
        for part, matrix in zip("AB", pair, strict=True):
            tensors[f"{PREFIX}{module}.lora_{part}.weight"] = np.ascontiguousarray(matrix, dtype=np.float16)
    # Not save_file, which would let nobody else read it.
    (folder / ADAPTER_FILE).write_bytes(save(tensors, metadata={"format": "pt"}))
    write_json(
        folder / CONFIG_FILE,
        {
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": base_model,
            "inference_mode": True,
            "r": tuned.rank,
            "lora_alpha": tuned.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": fan_in_fan_out,
            "target_modules": sorted(modules),
        },
    )
