"""A calibration for int8 in a file, so that it is done once for a model and not at every export.

A safetensors file: SmoothQuant's scales as tensors, and in the metadata which matrices are in blocks, for each
budget, and which weights it was made for.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from compression.choice import Choice
from compression.linear import NumberFormat
from compression.mixed_int8 import MixedInt8, mixed
from compression.scaled_channels import ScaledChannels
from gpt_tasks.backbone.weights import Model, fingerprint
from gpt_tasks.errors import UserError


class CalibratedInt8:
    """Chooses as `MixedInt8` did when the file was made.

    Raises:
        UserError: a file that can't be read, or was made for other weights.
    """

    def __init__(self, path: Path, model: Model) -> None:
        self._path = path
        self._model = model
        metadata, self._scales = read_calibration(path)
        self._choices = json.loads(metadata["choices"])
        # Of the norms only: that is what the files that come with the project hold.
        if metadata["weights"] != fingerprint(model.weights):
            raise UserError(f"{path} was made for other weights than {model.name}'s. Calibrate this model anew.")

    def choose(self, budget: float) -> tuple[ScaledChannels, NumberFormat, Choice]:
        """See `MixedInt8.choose`.

        Raises:
            UserError: the file hasn't got that budget.
        """
        if str(budget) not in self._choices:
            raise UserError(f"{self._path} was made by another version, for other budgets. Calibrate anew.")
        choice = Choice(**self._choices[str(budget)])
        in_blocks = [name for name, way in choice.chosen.items() if way == "blocks"]
        return ScaledChannels(self._model.weights, self._model.config, self._scales), mixed(in_blocks), choice


def read_calibration(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and scales.

    Raises:
        UserError: no such file, or not one of `python -m compression calibrate`.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}. Make one with: python -m compression calibrate MODEL FILE")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            scales = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no calibration of this project ({error}).") from error
    if not {"choices", "weights"} <= metadata.keys():
        raise UserError(f"{path} is no calibration of this project: it is a safetensors file of another kind.")
    return metadata, scales


def calibration_bytes(calibrated: MixedInt8, budgets: Sequence[float], model: Model) -> bytes:
    """The file's content."""
    choices = {str(budget): asdict(calibrated.choose(budget)[2]) for budget in budgets}
    metadata = {"choices": json.dumps(choices), "weights": fingerprint(model.weights), "model": model.name}
    return save(dict(calibrated.scales), metadata)
