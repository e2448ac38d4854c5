"""The mean of corrections: what two trainings on different texts have learned, in one LoRA of the same size."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from gpt_tasks.backbone.adapter import ADAPTER_FILE, CONFIG_FILE
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_replaceable, require_writable, whole_folder
from gpt_tasks.tensor_means import mean_tensors, shapes

_CARD = "README.md"
_MUST_AGREE = ("r", "lora_alpha", "target_modules", "fan_in_fan_out")


def average_corrections(folders: Sequence[Path], out: Path) -> None:
    """Writes `out`: the means of the matrices A, and of B.

    It works where one training went on from the other, or both from a third: then the weights between them are as good
    as at either end, on the texts of both (Wortsman et al. 2022, Robust fine-tuning of zero-shot models). What a
    training on another text has made the model forget is there again.

    Args:
        folders: LoRA corrections in PEFT's format, at least two

    Raises:
        UserError: fewer than two, one that can't be read, other ranks or matrices, an `out` that is something else, a
            full disk.
    """
    if len(folders) < 2:
        raise UserError("Averaging needs at least two corrections.")
    require_replaceable(out, "a correction", CONFIG_FILE, {ADAPTER_FILE, CONFIG_FILE, _CARD})
    require_writable(out)
    configs = [read_json(folder / CONFIG_FILE) for folder in folders]
    parts = [_read(folder) for folder in folders]
    for folder, config, part in zip(folders, configs, parts, strict=True):
        differs = [name for name in _MUST_AGREE if config.get(name) != configs[0].get(name)]
        if differs or shapes(part) != shapes(parts[0]):
            raise UserError(
                f"{folder} doesn't fit {folders[0]} ({', '.join(differs) or 'its matrices'}): both must be for the "
                "same layers, with the same rank."
            )
    with whole_folder(out) as folder:
        (folder / ADAPTER_FILE).write_bytes(save(mean_tensors(parts), metadata={"format": "pt"}))
        shutil.copyfile(folders[0] / CONFIG_FILE, folder / CONFIG_FILE)
        names = "\n".join(f"- {part}" for part in folders)
        (folder / _CARD).write_text(
            f"# {out.name}\n\nA LoRA correction in PEFT's format, the mean of\n\n{names}\n\nThe recipe step "
            f"`recover: {{adapter: FOLDER}}` applies it, and `distill --start FOLDER` goes on from it.\n",
            "utf-8",
        )


def _read(folder: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(folder / ADAPTER_FILE)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / ADAPTER_FILE} can't be read as a LoRA adapter ({error}).") from error
