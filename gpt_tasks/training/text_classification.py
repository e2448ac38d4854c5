"""Trains a classification task and writes its folder: adapter, head, calibration, log, picture, model card."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from gpt_tasks.backbone.adapter import read_pairs
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_replaceable, require_writable
from gpt_tasks.progress import Report, silent
from gpt_tasks.tasks.classification import TextClassifier
from gpt_tasks.tasks.trained_task import SETTINGS_FILE, WRITTEN_FILES, read_head
from gpt_tasks.tasks.windows import WindowReader, window_size
from gpt_tasks.training.adapter_files import go_on_from
from gpt_tasks.training.arithmetic import training_dtype
from gpt_tasks.training.classification_data import TaskData, TaskTraining, encode_rows, read_task_data
from gpt_tasks.training.classifier_files import save_classifier
from gpt_tasks.training.methods import Lora, TunedDecoder, make_tuned
from gpt_tasks.training.model_card import model_card
from gpt_tasks.training.objectives import Classification, Classifier, JointClassification, TaskTeacher
from gpt_tasks.training.options import TrainingOptions
from gpt_tasks.training.task_run import (
    chosen_modules,
    data_fingerprint,
    load_tokenizer,
    require_same_backbone,
    run_training,
    write_trained,
)
from gpt_tasks.training.teacher_answers import teacher_answers


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
            that don't fit the checkpoint, a teacher that hasn't got the data's labels, a start that is another task's
            or of another model.
    """
    _require_room(out)
    found = read_task_data(data)
    taught = None if teacher is None else _ask(teacher, found, model, training, report)
    torch.manual_seed(options.seed)
    tuned, modules = _build_tuned(model, training)
    classifier = Classifier(tuned, training.pooling, len(found.labels))
    if training.start is not None:
        _begin_with(Path(training.start), classifier, model, training, modules, found.labels)
    rows = encode_rows(found, _reader(model))
    objective = Classification(classifier, rows.train, rows.dev, training.label_smoothing, training.balanced, taught)
    figures = run_training(
        objective, model, training, options, data_fingerprint(data), out, resume=resume, report=report
    )

    def write(folder: Path) -> str:
        settings = save_classifier(folder, model, training, classifier, modules, rows, found)
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
    found = {task: read_task_data(folder) for task, folder in data.items()}
    torch.manual_seed(options.seed)
    tuned, modules = _build_tuned(model, training)
    reader = _reader(model)
    rows = {task: encode_rows(texts, reader) for task, texts in found.items()}
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
        JointClassification(parts), model, training, options, fingerprints, out, resume=resume, report=report
    )
    names = {task: folder.name for task, folder in data.items()}

    def writer(task: str) -> Callable[[Path], str]:
        own = replace(training, task=task)

        def write(folder: Path) -> str:
            settings = save_classifier(folder, model, own, parts[task].model, modules, rows[task], found[task])
            return model_card(settings, own, options, names, len(rows[task].train), len(rows[task].dev))

        return write

    write_trained(out, {folder: writer(task) for task, folder in folders.items()})
    return figures


def _require_room(out: Path) -> None:
    require_replaceable(out, "a trained task", SETTINGS_FILE, WRITTEN_FILES)
    require_writable(out)


def _reader(model: Model) -> WindowReader:
    return WindowReader(load_tokenizer(model), model.hugging_face_config.get("bos_token_id"), window_size(model.config))


def _ask(teacher: TextClassifier, data: TaskData, model: Model, training: TaskTraining, report: Report) -> TaskTeacher:
    missing = [label for label in data.labels if label not in teacher.task.labels]
    if missing:
        raise UserError(f"The teacher {training.teacher} hasn't got the label {missing[0]!r} of the data.")
    if training.teacher_features and teacher.hidden_size != model.config.hidden_size:
        raise UserError(
            f"The teacher's head reads vectors of {teacher.hidden_size} numbers, the model's of "
            f"{model.config.hidden_size}: they can't be matched. Leave --teacher-features out."
        )
    columns = [teacher.task.labels.index(label) for label in data.labels]
    answers = teacher_answers(teacher, [row.text for row in data.train], report)
    return TaskTeacher(
        torch.from_numpy(answers.logits[:, columns]),
        training.teacher_weight,
        training.teacher_temperature,
        torch.from_numpy(answers.features),
        training.teacher_features,
    )


def _begin_with(
    folder: Path,
    classifier: Classifier,
    model: Model,
    training: TaskTraining,
    modules: dict[str, tuple[str, ...]],
    labels: list[str],
) -> None:
    """
    Raises:
        UserError: another backbone, other labels, another pooling, attention or rank.
    """
    settings, head, _ = read_head(folder)
    require_same_backbone(folder, settings.backbone, model)
    if settings.labels != labels:
        raise UserError(f"{folder} has other labels than the data.")
    attention = "causal" if training.causal else "full"
    if (settings.pooling, settings.attention) != (training.pooling, attention):
        raise UserError(
            f"{folder} was trained with --pooling {settings.pooling} --attention {settings.attention}. Give the same."
        )
    if settings.method not in ("head", "lora") or training.method not in (settings.method, "lora"):
        raise UserError(
            f"--method {training.method} can't begin with {folder}, which was trained with --method {settings.method}: "
            "head begins with head, lora with head or lora."
        )
    with torch.no_grad():
        classifier.head.weight.copy_(torch.from_numpy(head.weight))
        classifier.head.bias.copy_(torch.from_numpy(head.bias))
        if head.query is not None:
            classifier.pooling.query.copy_(torch.from_numpy(head.query))
    if isinstance(classifier.tuned, Lora) and settings.method == "lora":
        go_on_from(classifier.tuned, modules, *read_pairs(folder, model.hugging_face_config), folder)


def _build_tuned(model: Model, training: TaskTraining) -> tuple[TunedDecoder, dict[str, tuple[str, ...]]]:
    """The untrained decoder, and the modules that LoRA corrects."""
    modules = chosen_modules(model, training.method, training.matrices, training.first_layer)
    decoder = load_decoder(model.weights).to(training_dtype())  # what isn't trained stays so
    return make_tuned(training.method, decoder, modules, causal=training.causal, rank=training.rank), modules
