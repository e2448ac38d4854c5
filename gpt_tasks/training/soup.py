"""The mean of several trainings' parameters: a model soup (Wortsman et al. 2022, Model soups)."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from gpt_tasks.backbone.adapter import ADAPTER_FILE, CONFIG_FILE
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_replaceable, require_writable, whole_folder
from gpt_tasks.tasks.calibration import fit_temperature
from gpt_tasks.tasks.classification import CHUNK, TextClassifier, require_texts
from gpt_tasks.tasks.text_files import LabelledText
from gpt_tasks.tasks.trained_task import HEAD_FILE, SETTINGS_FILE, WRITTEN_FILES, TrainedTask, load_task, write_settings
from gpt_tasks.tasks.windows import WindowReader
from gpt_tasks.tensor_means import mean_tensors, shapes
from gpt_tasks.training.model_card import soup_card

_LOGS = ("log.jsonl", "loss.png")


def average_tasks(
    folders: Sequence[Path],
    dev: Sequence[LabelledText],
    artifact: Artifact,
    precision: str,
    out: Path,
    done: Callable[[int], None] = lambda count: None,
) -> float:
    """Writes `out`: the parameters' means, calibrated anew. Nothing is trained, and serving costs what one does.

    It works for trainings that began alike (the same data, seed and rank), or went on from one: then their parameters
    lie in one valley of the loss.

    Args:
        folders: of trained classifications, at least two
        dev: what the temperature is fitted on
        precision: of the artifact, that dev is read in
        done: told how many texts of dev are read

    Returns:
        the accuracy on dev

    Raises:
        UserError: fewer than two, tasks that don't fit each other or have a rule for texts out of scope, which can't be
            averaged; a label in dev that they haven't got.
    """
    require_replaceable(out, "a trained task", SETTINGS_FILE, WRITTEN_FILES)
    require_writable(out)
    _require_alike(folders, [load_task(folder, artifact) for folder in folders])
    with whole_folder(out) as folder:
        for name in (HEAD_FILE, ADAPTER_FILE):
            if (folders[0] / name).is_file():
                (folder / name).write_bytes(save(mean_tensors([load_file(part / name) for part in folders])))
        for name in (SETTINGS_FILE, CONFIG_FILE, *_LOGS):
            if (folders[0] / name).is_file():
                shutil.copyfile(folders[0] / name, folder / name)
        task = load_task(folder, artifact)
        logits, truth = _read_dev(task, dev, artifact, precision, done)
        accuracy = float((logits.argmax(axis=1) == truth).mean())
        settings = replace(
            task.settings,
            temperature=fit_temperature(logits, truth),
            dev={"accuracy": accuracy, "texts": len(dev), "precision": precision},
        )
        write_settings(folder, settings)
        cards = [(part / "README.md").read_text("utf-8") for part in folders]
        (folder / "README.md").write_text(
            soup_card(settings, [part.resolve().name for part in folders], cards), "utf-8"
        )
    return accuracy


def _require_alike(folders: Sequence[Path], tasks: Sequence[TrainedTask]) -> None:
    if len(folders) < 2:
        raise UserError("Averaging needs at least two trained tasks.")
    first = tasks[0]
    for folder, task in zip(folders, tasks, strict=True):
        if task.out_of_scope is not None:
            raise UserError(f"{folder} has a rule for texts out of scope, which can't be averaged.")
        alike = all(
            getattr(task.settings, name) == getattr(first.settings, name) for name in ("labels", "pooling", "method")
        )
        if not alike or _shapes(folder) != _shapes(folders[0]):
            raise UserError(
                f"{folder} doesn't fit {folders[0]}: labels, pooling, method, rank and corrected matrices must be the "
                "same."
            )


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    files = [folder / name for name in (HEAD_FILE, ADAPTER_FILE) if (folder / name).is_file()]
    return {name: shape for file in files for name, shape in shapes(load_file(file)).items()}


def _read_dev(
    task: TrainedTask, dev: Sequence[LabelledText], artifact: Artifact, precision: str, done: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [texts, labels] and the right labels' numbers [texts]"""
    unknown = next((row for row in dev if row.label not in task.labels), None)
    if unknown is not None:
        raise UserError(f"Line {unknown.line} has the label {unknown.label!r}, which the tasks haven't got.")
    reader = WindowReader.of(artifact, artifact.load_tokenizer())
    classifier = TextClassifier(EncoderEngine(artifact, precision), reader, task)
    require_texts([row.text for row in dev])
    scored = []
    for begin in range(0, len(dev), CHUNK):
        scored += classifier.score([row.text for row in dev[begin : begin + CHUNK]])
        done(len(scored))
    return np.stack([one.logits for one in scored]), np.array([task.labels.index(row.label) for row in dev])
