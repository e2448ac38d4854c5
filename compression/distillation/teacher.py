"""A teacher's predictions on a text, kept on disk so that it reads the text once, whatever is tried on the students."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compression.distillation.losses import LikelyTokens, likely_tokens
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import Model, content_hash
from gpt_tasks.home import require_free_space, whole_folder, writable_home
from gpt_tasks.progress import Progress, Report, silent
from gpt_tasks.training.arithmetic import training_dtype
from gpt_tasks.training.compiled_layers import compile_layers

_BATCH_TOKENS = 2048
_ROWS = 128  # whose logits are looked through at once, while they are in the processor's caches
_IDS, _LOG_PROBABILITIES = "ids.npy", "log_probabilities.npy"


class TeacherPredictions:
    """The likeliest tokens after every position of some windows; a memory-mapped pair of files.

    ids: uint32 [windows, length, k]; log_probabilities: float16, the same shape
    """

    def __init__(self, folder: Path) -> None:
        self._ids = np.load(folder / _IDS, mmap_mode="r")
        self._log_probabilities = np.load(folder / _LOG_PROBABILITIES, mmap_mode="r")

    def of(self, windows: list[int]) -> LikelyTokens:
        """Of some windows, one below the other: [windows · length, k]"""
        ids = torch.from_numpy(self._ids[windows].astype(np.int64))
        return LikelyTokens(ids.flatten(0, 1), torch.from_numpy(self._log_probabilities[windows]).flatten(0, 1))


def teacher_predictions(
    teacher: Model, windows: Tensor, k: int, temperature: float, *, compiled: bool = False, report: Report = silent
) -> TeacherPredictions:
    """From the cache folder, or computed and kept there.

    Args:
        windows: int64 [windows, length]
        compiled: see `compile_layers`

    Raises:
        UserError: no compiler, where one is asked for, a full disk, a cache that can't be written.
    """
    k = min(k, teacher.config.vocabulary_size)
    key = hashlib.sha256(windows.numpy().tobytes())
    key.update(f"{content_hash(teacher)} {k} {temperature}".encode())
    folder = writable_home() / "teachers" / key.hexdigest()[:24]
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        shape = (*windows.shape, k)
        require_free_space(folder.parent, int(np.prod(shape)) * 6 // 10**6 + 1, "keep the teacher's predictions")
        with whole_folder(folder) as part:
            _predict(teacher, windows, k, temperature, compiled, part, report)
    return TeacherPredictions(folder)


@torch.inference_mode()
def _predict(
    teacher: Model, windows: Tensor, k: int, temperature: float, compiled: bool, folder: Path, report: Report
) -> None:
    decoder = load_decoder(teacher.weights).to(training_dtype())
    if compiled:
        compile_layers(decoder, one_length=True)
    shape = (*windows.shape, k)
    ids = np.lib.format.open_memmap(folder / _IDS, "w+", np.uint32, shape)
    log_probabilities = np.lib.format.open_memmap(folder / _LOG_PROBABILITIES, "w+", np.float16, shape)
    step = max(1, _BATCH_TOKENS // windows.shape[1])
    for begin in range(0, len(windows), step):
        batch = windows[begin : begin + step]
        pieces = decoder.encode(batch).flatten(0, 1).split(_ROWS)
        found = [likely_tokens(decoder.head(piece), k, temperature) for piece in pieces]
        ids[begin : begin + step] = torch.cat([f.ids for f in found]).reshape(*batch.shape, k).numpy()
        kept = torch.cat([f.log_probabilities for f in found])
        log_probabilities[begin : begin + step] = kept.reshape(*batch.shape, k).numpy()
        report(Progress("teaching", min(begin + step, len(windows)) * windows.shape[1], windows.numel(), "tokens"))
    ids.flush()
    log_probabilities.flush()
