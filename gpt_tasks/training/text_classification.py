"""Trains a classification task and writes its folder: adapter, head, calibration, log, picture, model card."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from gpt_tasks.backbone.architectures import family_of
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import Model, fingerprint
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_replaceable, require_writable
from gpt_tasks.progress import Progress, Report, silent
from gpt_tasks.tasks.calibration import fit_temperature
from gpt_tasks.tasks.classification import TextClassifier
from gpt_tasks.tasks.heads import LinearHead
from gpt_tasks.tasks.out_of_scope import OutOfScopeRule, fit_out_of_scope
from gpt_tasks.tasks.text_files import LabelledText, read_text_file
from gpt_tasks.tasks.trained_task import (
    OUT_OF_SCOPE,
    PARAMETERS_FILE,
    SETTINGS_FILE,
    WRITTEN_FILES,
    TaskSettings,
    write_head,
)
from gpt_tasks.tasks.windows import WindowReader, window_size
from gpt_tasks.training.adapter_files import write_adapter
from gpt_tasks.training.arithmetic import training_dtype
from gpt_tasks.training.batches import length_batches, pad
from gpt_tasks.training.methods import Lora, TunedDecoder, make_tuned
from gpt_tasks.training.model_card import model_card
from gpt_tasks.training.objectives import Classification, Classifier, JointClassification, TaskTeacher
from gpt_tasks.training.options import MATRICES, TrainingOptions
from gpt_tasks.training.pooling import PoolingName
from gpt_tasks.training.task_run import chosen_modules, data_fingerprint, load_tokenizer, run_training, write_trained

_FEATURE_TOKENS = 4096
_CHUNK = 256  # texts that the teacher reads before it is told how far it is


@dataclass(frozen=True)
class TaskTraining:
    """What to train, and how."""

    task: str
    method: str = "lora"
    pooling: PoolingName = "attention"
    causal: bool = True
    rank: int = 8
    first_layer: int = 0
    """LoRA corrects this layer and those above it"""
    matrices: tuple[str, ...] = MATRICES
    """which ones LoRA corrects in a layer"""
    label_smoothing: float = 0.0
    balanced: bool = False
    """see `Classification`"""
    teacher: str | None = None
    """a task on a larger model whose answers are learned too (task distillation)"""
    teacher_weight: float = 0.5
    teacher_temperature: float = 2.0
    """see `TaskTeacher`"""
    licence: str = "not stated"
    """of the data"""


@dataclass(frozen=True)
class _Data:
    train: list[LabelledText]
    dev: list[LabelledText]
    labels: list[str]
    domains: dict[str, list[str]] | None


@dataclass(frozen=True)
class _Rows:
    """Token ids and the label's number, each."""

    train: list[tuple[list[int], int]]
    dev: list[tuple[list[int], int]]


def train_task(
    model: Model,
    data: Path,
    out: Path,
    training: TaskTraining,
    options: TrainingOptions,
    *,
    teacher: TextClassifier | None = None,
    resume: bool = False,
    report: Report = silent,
) -> dict[str, float]:
    """Trains on `data`'s train.jsonl, chooses on its dev.jsonl, and writes the folder `out`.

    While it runs, the log and the checkpoint are in `<out>.training`; `out` appears when all is done.

    Args:
        teacher: of `training.teacher`

    Returns:
        the figures on dev

    Raises:
        UserError: data that can't be read or has fewer than two labels, a folder that can't be written, options
            that don't fit the checkpoint, a teacher that hasn't got the data's labels.
    """
    _require_room(out)
    found = _read_data(data)
    taught = None if teacher is None else _ask(teacher, found, training, report)
    torch.manual_seed(options.seed)
    tuned, modules = _build_tuned(model, training)
    classifier = Classifier(tuned, training.pooling, len(found.labels))
    rows = _encode(found, _reader(model))
    objective = Classification(classifier, rows.train, rows.dev, training.label_smoothing, training.balanced, taught)
    figures = run_training(objective, training, options, data_fingerprint(data), out, resume=resume, report=report)

    def write(folder: Path) -> str:
        settings = _save_task(folder, model, training, classifier, modules, rows, found)
        return model_card(settings, training, options, {training.task: data.name}, len(rows.train), len(rows.dev))

    write_trained(out, {out: write})
    return figures


def train_together(
    model: Model,
    data: Mapping[str, Path],
    out: Path,
    training: TaskTraining,
    options: TrainingOptions,
    *,
    resume: bool = False,
    report: Report = silent,
) -> dict[str, float]:
    """Trains several tasks with one adapter, and writes a folder for each into `out`: the same adapter, its own head.

    Args:
        data: a task's name -> its data's folder
        training: of every task but for its name

    Returns:
        the figures on dev: `<task>_accuracy`

    Raises:
        UserError: as `train_task`.
    """
    folders = {task: out / task for task in data}
    for folder in folders.values():
        _require_room(folder)
    found = {task: _read_data(folder) for task, folder in data.items()}
    torch.manual_seed(options.seed)
    tuned, modules = _build_tuned(model, training)
    reader = _reader(model)
    rows = {task: _encode(texts, reader) for task, texts in found.items()}
    parts = {
        task: Classification(
            Classifier(tuned, training.pooling, len(found[task].labels)),
            rows[task].train,
            rows[task].dev,
            training.label_smoothing,
            training.balanced,
        )
        for task in data
    }
    fingerprints = " ".join(map(data_fingerprint, data.values()))
    figures = run_training(
        JointClassification(parts), training, options, fingerprints, out, resume=resume, report=report
    )
    names = {task: folder.name for task, folder in data.items()}

    def writer(task: str) -> Callable[[Path], str]:
        own = replace(training, task=task)

        def write(folder: Path) -> str:
            settings = _save_task(folder, model, own, parts[task].model, modules, rows[task], found[task])
            return model_card(settings, own, options, names, len(rows[task].train), len(rows[task].dev))

        return write

    write_trained(out, {folder: writer(task) for task, folder in folders.items()})
    return figures


def _require_room(out: Path) -> None:
    require_replaceable(out, "a trained task", SETTINGS_FILE, WRITTEN_FILES)
    require_writable(out)


def _reader(model: Model) -> WindowReader:
    return WindowReader(load_tokenizer(model), model.hugging_face_config.get("bos_token_id"), window_size(model.config))


def _encode(data: _Data, reader: WindowReader) -> _Rows:
    """A text's first window."""
    numbers = {label: index for index, label in enumerate(data.labels)}
    return _Rows(*([(reader.first(row.text), numbers[row.label]) for row in rows] for rows in (data.train, data.dev)))


def _ask(teacher: TextClassifier, data: _Data, training: TaskTraining, report: Report) -> TaskTeacher:
    missing = [label for label in data.labels if label not in teacher.task.labels]
    if missing:
        raise UserError(f"The teacher {training.teacher} hasn't got the label {missing[0]!r} of the data.")
    columns = [teacher.task.labels.index(label) for label in data.labels]
    logits = []
    for begin in range(0, len(data.train), _CHUNK):
        logits += [
            scored.logits[columns] for scored in teacher.score([row.text for row in data.train[begin:][:_CHUNK]])
        ]
        report(Progress("teaching", len(logits), len(data.train), "texts"))
    return TaskTeacher(torch.tensor(np.array(logits)), training.teacher_weight, training.teacher_temperature)


def _read_data(data: Path) -> _Data:
    train, dev = (read_text_file(data / f"{split}.jsonl", labelled=True) for split in ("train", "dev"))
    labels = sorted({row.label for row in train})
    if len(labels) < 2:
        raise UserError(f"{data / 'train.jsonl'} has one label only ({labels[0]}). A classifier needs at least two.")
    unknown = next((row for row in dev if row.label not in labels), None)
    if unknown is not None:
        raise UserError(f"{data / 'dev.jsonl'}, line {unknown.line}: the label {unknown.label!r} isn't in train.jsonl.")
    domains = data / "domains.json"
    return _Data(train, dev, labels, read_json(domains) if domains.is_file() else None)


def _build_tuned(model: Model, training: TaskTraining) -> tuple[TunedDecoder, dict[str, tuple[str, ...]]]:
    """The untrained decoder, and the modules that LoRA corrects."""
    modules = chosen_modules(model, training.method, training.matrices, training.first_layer)
    decoder = load_decoder(model.weights).to(training_dtype())  # what isn't trained stays so
    return make_tuned(training.method, decoder, modules, causal=training.causal, rank=training.rank), modules


def _save_task(
    folder: Path,
    model: Model,
    training: TaskTraining,
    classifier: Classifier,
    modules: dict[str, tuple[str, ...]],
    rows: _Rows,
    data: _Data,
) -> TaskSettings:
    """Calibrates on dev and writes adapter and head."""
    classifier.eval()
    query = classifier.pooling.query.detach().numpy() if training.pooling == "attention" else None
    head = LinearHead(
        training.pooling, classifier.head.weight.detach().numpy(), classifier.head.bias.detach().numpy(), query
    )
    truth = np.array([label for _, label in rows.dev])
    features = _features(classifier, [ids for ids, _ in rows.dev])
    logits = head.logits(features)
    rule = _rule(classifier, rows.train, logits, features, truth, data.labels)
    settings = TaskSettings(
        task=training.task,
        labels=data.labels,
        method=training.method,
        attention="causal" if training.causal else "full",
        pooling=training.pooling,
        temperature=fit_temperature(logits, truth),
        backbone={"name": model.name, "fingerprint": fingerprint(model.weights)},
        domains=data.domains,
        out_of_scope=None if rule is None else rule.settings(),
        dev={"accuracy": float((logits.argmax(axis=1) == truth).mean()), "texts": len(truth)},
    )
    write_head(folder, settings, head, rule)
    tuned = classifier.tuned
    if isinstance(tuned, Lora):
        transposed = family_of(model.hugging_face_config).transposed
        write_adapter(folder, tuned, modules, model.name, fan_in_fan_out=transposed)
    elif tuned.trained():
        parameters = {name: p.detach().contiguous() for name, p in tuned.trained().items()}
        (folder / PARAMETERS_FILE).write_bytes(save(parameters))
    return settings


def _rule(
    classifier: Classifier,
    train: Sequence[tuple[Sequence[int], int]],
    logits: np.ndarray,
    features: np.ndarray,
    truth: np.ndarray,
    labels: list[str],
) -> OutOfScopeRule | None:
    """Where the data has texts out of scope, in train and in dev."""
    if OUT_OF_SCOPE not in labels or not (truth == labels.index(OUT_OF_SCOPE)).any():
        return None
    return fit_out_of_scope(
        _features(classifier, [ids for ids, _ in train]),
        np.array([label for _, label in train]),
        logits,
        features,
        truth,
        labels.index(OUT_OF_SCOPE),
    )


def _features(classifier: Classifier, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """[rows, hidden]"""
    features = np.zeros((len(rows), classifier.head.in_features), np.float32)
    with torch.inference_mode():
        for batch in length_batches([len(ids) for ids in rows], _FEATURE_TOKENS):
            features[batch] = classifier.features(*pad([rows[index] for index in batch])).float().numpy()
    return features
