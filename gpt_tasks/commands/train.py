"""Train a task on the backbone, from a folder with train.jsonl and dev.jsonl; or several with one adapter.

Classification: each line of these files is an object with "text" and "label". A label "oos" means that no other one
fits; a domains.json beside them may say which labels belong together. With several names after --task, and as many
folders after --data, the tasks are trained together and share one adapter; each gets its folder in --out.

Extraction (--task entities, relations or events): each line has "tokens" and "tags" (BIO), and where they are marked
"relations"; or "tokens", "head", "tail" and "relation"; or "tokens", "triggers" and "arguments". By default the
backbone stays as it is (--method head), and a small network reads its hidden states.
"""

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from gpt_tasks.backbone.weights import DEFAULT, open_model
from gpt_tasks.commands.classification_options import make_classifier
from gpt_tasks.commands.training_options import add_training_options
from gpt_tasks.errors import UserError
from gpt_tasks.progress import silent
from gpt_tasks.progress_output import make_reporter
from gpt_tasks.tasks.classification import TextClassifier
from gpt_tasks.tasks.extraction.extraction_task import SCHEMAS
from gpt_tasks.training.options import MATRICES, TrainingOptions

SUMMARY = "train a task: LoRA, full, head only, soft prompt or prefix"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", required=True, nargs="+", metavar="TASK", help="its name, such as sentiment")
    parser.add_argument(
        "--data", required=True, nargs="+", type=Path, metavar="DIR", help="has train.jsonl and dev.jsonl"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the new task's folder")
    parser.add_argument("--model", default=DEFAULT, help="a model's folder or hub id (default: the default model)")
    parser.add_argument(
        "--method",
        choices=["lora", "full", "head", "soft_prompt", "prefix"],
        help="default: lora; for an extraction, which knows head and lora, head. classify and evaluate take what lora "
        "and head trained; the others are there to compare",
    )
    parser.add_argument("--pooling", choices=["attention", "mean", "last"], help="default: attention")
    parser.add_argument(
        "--attention",
        choices=["causal", "full"],
        default="causal",
        help="full: every token sees all others; classify and evaluate take causal alone (default: causal)",
    )
    parser.add_argument("--rank", type=int, help="of LoRA; alpha is twice that (default: 8)")
    parser.add_argument("--first-layer", type=int, help="LoRA corrects this layer and those above it (default: 0)")
    parser.add_argument(
        "--matrices",
        nargs="+",
        choices=MATRICES,
        help="of each layer, that LoRA corrects (default: all)",
    )
    parser.add_argument("--label-smoothing", type=float, help="(default: 0)")
    parser.add_argument("--balanced", action="store_true", help="every label counts the same, however many examples")
    parser.add_argument(
        "--teacher", metavar="TASK", help="as in classify: a task on a larger model whose answers are learned too"
    )
    parser.add_argument("--teacher-model", metavar="ARTIFACT", help="the teacher's (default: the default model)")
    parser.add_argument("--teacher-weight", type=float, help="the rest is the labels' (default: 0.5)")
    parser.add_argument("--teacher-temperature", type=float, help="(default: 2)")
    parser.add_argument(
        "--teacher-features",
        type=float,
        metavar="WEIGHT",
        help="how much what the head reads is matched with what the teacher's reads; for a teacher as wide as the "
        "model, such as 8 (default: 0)",
    )
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--tokens-per-batch", type=int, default=1024, help="padding counted (default: %(default)s)")
    parser.add_argument("--evaluations-per-epoch", type=float, default=2)
    parser.add_argument("--patience", type=int, default=4, help="evaluations without gain before it stops")
    parser.add_argument(
        "--average",
        type=float,
        default=0.0,
        metavar="DECAY",
        help="evaluate and keep a moving average of the parameters, such as 0.99 (default: the parameters themselves)",
    )
    parser.add_argument("--schema", help="of an extraction: the name of its labels (default: the data folder's)")
    parser.add_argument(
        "--reading",
        choices=["once", "twice", "in_context"],
        help="of an extraction: twice lets each word see the words after it, for twice the time; in_context reads a "
        'sentence after those before it (rows of one text have the same "doc"); default: once',
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="DIR",
        help="begin with what this folder has, trained on the same model for the same labels: its head, and of a "
        "classification its LoRA (an extraction starts from one with --method head); with another --seed, the mean of "
        "several that start from one (average) is often better than each",
    )
    parser.add_argument("--sentences", type=int, help="of an extraction: train on so many, not on all")
    parser.add_argument("--licence", default="not stated", help="of the data, for the model card")
    add_training_options(parser)


_DEFAULTS = {
    "pooling": "attention",
    "label_smoothing": 0.0,
    "teacher_weight": 0.5,
    "teacher_temperature": 2.0,
    "teacher_features": 0.0,
    "rank": 8,
    "first_layer": 0,
    "matrices": MATRICES,
    "reading": "once",
}
"""Of options that belong to some trainings only: where they are given to another, they are refused."""
_OF_CLASSIFICATIONS = ("pooling", "label_smoothing", "balanced", "teacher")
_OF_EXTRACTIONS = ("schema", "reading", "sentences")
_OF_TEACHERS = ("teacher_model", "teacher_weight", "teacher_temperature", "teacher_features")
_OF_LORA = ("rank", "first_layer", "matrices")


def run(arguments: argparse.Namespace) -> None:
    _check_tasks(arguments)
    for name, default in _DEFAULTS.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
    if arguments.rank < 1:
        raise UserError(f"--rank must be at least 1, got {arguments.rank}.")
    if not 0 <= arguments.label_smoothing < 1:
        raise UserError(f"--label-smoothing must be at least 0 and less than 1, got {arguments.label_smoothing}.")
    if not 0 < arguments.teacher_weight <= 1:
        raise UserError(f"--teacher-weight must be more than 0 and at most 1, got {arguments.teacher_weight}.")
    if not 0 < arguments.teacher_temperature < math.inf:
        raise UserError(f"--teacher-temperature must be more than 0, got {arguments.teacher_temperature}.")
    if not 0 <= arguments.teacher_features < math.inf:
        raise UserError(f"--teacher-features must be 0 or more, got {arguments.teacher_features}.")
    if arguments.method == "prefix" and arguments.attention == "full":
        raise UserError("A prefix works with causal attention only. Leave --attention full out.")
    try:
        options = TrainingOptions(
            epochs=arguments.epochs,
            learning_rate=arguments.learning_rate,
            tokens_per_batch=arguments.tokens_per_batch,
            accumulation=arguments.accumulation,
            evaluations_per_epoch=arguments.evaluations_per_epoch,
            patience=arguments.patience,
            seed=arguments.seed,
            average=arguments.average,
            compiled=arguments.compile,
        )
    except ValueError as error:
        raise UserError(f"{error}.") from error
    if arguments.task[0] in SCHEMAS:
        _train_extraction(arguments, options)
    else:
        _train_classification(arguments, options)


def _check_tasks(arguments: argparse.Namespace) -> None:
    tasks, extractions = arguments.task, [task for task in arguments.task if task in SCHEMAS]
    if len(tasks) != len(arguments.data):
        raise UserError(
            f"--task names {len(tasks)} and --data {len(arguments.data)}. Give each task its folder, in the same order."
        )
    if len(set(tasks)) < len(tasks):
        raise UserError("--task names one task twice.")
    if len(tasks) > 1 and any(Path(task).name != task for task in tasks):
        raise UserError("Tasks that are trained together get folders of their names in --out: leave out slashes.")
    if extractions:
        _refuse(arguments, _OF_CLASSIFICATIONS, "classifications")
    else:
        _refuse(arguments, _OF_EXTRACTIONS, f"the tasks {', '.join(SCHEMAS)}")
    if arguments.teacher is None:
        _refuse(arguments, _OF_TEACHERS, "a training with --teacher")
    if (arguments.method or ("head" if extractions else "lora")) != "lora":
        _refuse(arguments, _OF_LORA, "--method lora")
    for name in ("teacher", "start"):
        if getattr(arguments, name) and len(tasks) > 1:
            raise UserError(f"--{name} is for one task. Leave it out.")
    if extractions and len(tasks) > 1:
        raise UserError(f"{extractions[0]} is trained alone: extractions need no adapter that they could share.")


def _refuse(arguments: argparse.Namespace, names: Sequence[str], what: str) -> None:
    """
    Raises:
        UserError: one of the options is given.
    """
    for name in names:
        if getattr(arguments, name) not in (None, False):
            raise UserError(f"--{name.replace('_', '-')} is for {what}. Leave it out.")


def _train_classification(arguments: argparse.Namespace, options: TrainingOptions) -> None:
    # Here, so that the other commands start without PyTorch.
    from gpt_tasks.training.classification_data import TaskTraining
    from gpt_tasks.training.text_classification import train_task, train_together

    training = TaskTraining(
        task=" ".join(arguments.task),
        method=arguments.method or "lora",
        pooling=arguments.pooling,
        causal=arguments.attention == "causal",
        rank=arguments.rank,
        first_layer=arguments.first_layer,
        matrices=tuple(arguments.matrices),
        label_smoothing=arguments.label_smoothing,
        balanced=arguments.balanced,
        teacher=arguments.teacher,
        teacher_model=arguments.teacher_model,
        teacher_weight=arguments.teacher_weight,
        teacher_temperature=arguments.teacher_temperature,
        teacher_features=arguments.teacher_features,
        start=_start_of(arguments),
        licence=arguments.licence,
    )
    if len(arguments.task) > 1:
        data = dict(zip(arguments.task, arguments.data, strict=True))
        figures = _train(train_together, data, training, arguments, options)
        for task in arguments.task:
            accuracy = 100 * figures[f"{task}_accuracy"]
            sys.stdout.write(f"{arguments.out / task}: accuracy on dev {accuracy:.2f} %\n")
        return
    teacher = None if arguments.teacher is None else _teacher(arguments)
    figures = _train(partial(train_task, teacher=teacher), arguments.data[0], training, arguments, options)
    sys.stdout.write(f"{arguments.out}: accuracy on dev {100 * figures['accuracy']:.2f} %\n")


def _teacher(arguments: argparse.Namespace) -> TextClassifier:
    asked = argparse.Namespace(task=arguments.teacher, model=arguments.teacher_model, precision=None)
    teacher = make_classifier(asked, silent)
    if not isinstance(teacher, TextClassifier):
        raise UserError("--teacher must be a trained task, not one that was taught on frozen features.")
    return teacher


def _start_of(arguments: argparse.Namespace) -> str | None:
    return None if arguments.start is None else str(arguments.start)


def _train_extraction(arguments: argparse.Namespace, options: TrainingOptions) -> None:
    from gpt_tasks.training.extraction import ExtractionTraining, train_extraction

    method = arguments.method or "head"
    if method not in ("head", "lora"):
        raise UserError(f"An extraction is trained with --method head or lora, not {method}.")
    if arguments.sentences is not None and arguments.sentences < 1:
        raise UserError(f"--sentences must be at least 1, got {arguments.sentences}.")
    training = ExtractionTraining(
        task=arguments.task[0],
        schema=arguments.schema or arguments.data[0].resolve().name,
        method=method,
        causal=arguments.attention == "causal",
        reading=arguments.reading,
        rank=arguments.rank,
        first_layer=arguments.first_layer,
        matrices=tuple(arguments.matrices),
        sentences=arguments.sentences,
        start=_start_of(arguments),
        licence=arguments.licence,
    )
    figures = _train(train_extraction, arguments.data[0], training, arguments, options)
    sys.stdout.write(f"{arguments.out}: on dev\n")
    for name, value in figures.items():
        if name.endswith("f1"):
            sys.stdout.write(f"{name:<28}{100 * value:6.2f}\n")


def _train(
    train: Callable[..., dict[str, float]],
    data: Path | Mapping[str, Path],
    training: object,
    arguments: argparse.Namespace,
    options: TrainingOptions,
) -> dict[str, float]:
    with make_reporter(arguments.progress) as report:
        model = open_model(arguments.model, report)
        return train(model, data, arguments.out, training, options, resume=arguments.resume, report=report)
