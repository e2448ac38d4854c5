"""Reads a folder of safetensors files, one or in shards. Pickled weights are never opened."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401  (teaches numpy bfloat16, which safetensors then returns)
import numpy as np
from safetensors import SafetensorError, safe_open

from gpt_tasks.errors import UserError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"


class SafetensorsFolder(Mapping[str, np.ndarray]):
    """The tensors of a checkpoint folder under their own names, as fp32, read when asked for.

    Raises:
        UserError: no safetensors there, a shard that is missing, a file that is cut off.
    """

    def __init__(self, folder: Path) -> None:
        self._file_of: dict[str, Path] = {}
        for path in _files(folder):
            try:
                with safe_open(path, "numpy") as tensors:
                    self._file_of.update(dict.fromkeys(tensors.keys(), path))
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} can't be read ({error}). It may be cut off: fetch it again.") from error

    def __getitem__(self, name: str) -> np.ndarray:
        with safe_open(self._file_of[name], "numpy") as tensors:
            return tensors.get_tensor(name).astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


def _files(folder: Path) -> list[Path]:
    index = folder / INDEX_NAME
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{index} is not a safetensors index. Fetch it again.") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise UserError(
                f"{folder} lacks {', '.join(missing)}, which {index.name} names. Fetch the whole checkpoint."
            )
        return [folder / name for name in names]
    if (folder / SINGLE_NAME).is_file():
        return [folder / SINGLE_NAME]
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if pickled:
        raise UserError(
            f"{folder} has pickled weights only ({', '.join(pickled[:3])}). Unpickling runs whatever code is "
            "in the file, so they are not opened. Load them where you trust them and write them again with "
            "transformers' save_pretrained(..., safe_serialization=True)."
        )
    raise UserError(f"{folder} has no {SINGLE_NAME}. Name a folder with config.json, tokenizer.json and safetensors.")
