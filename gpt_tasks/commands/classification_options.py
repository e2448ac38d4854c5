"""What `classify` and `evaluate` share: which task, on which model."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.backbone import named_artifact
from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.backbone.prepare import prepare
from gpt_tasks.progress import Report
from gpt_tasks.tasks.classification import TextClassifier
from gpt_tasks.tasks.taught import FeatureReader, TaughtClassifier, from_file
from gpt_tasks.tasks.trained_task import CLASSIFICATION, TAUGHT_FILE, load_task, shipped_task
from gpt_tasks.tasks.windows import WindowReader


def add_task_arguments(
    parser: argparse.ArgumentParser, names: Sequence[str] = CLASSIFICATION, required: bool = True
) -> None:
    """
    Args:
        names: of the tasks that come with the project
    """
    parser.add_argument(
        "--task",
        required=required,
        metavar="TASK",
        help=f"{', '.join(names)}; the folder of a trained task; the file of a taught one, or its folder",
    )
    parser.add_argument("--model", metavar="ARTIFACT", help="an exported model (default: the default model)")
    parser.add_argument("--precision", help="one of the model's (default: int8)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--progress", choices=["bar", "json", "none"], default="bar")


def named_model(name: str | None, report: Report) -> Artifact:
    """The exported model of a folder, of $GPT_TASKS_MODEL, or the default one."""
    return Artifact(Path(name).expanduser()) if name else named_artifact() or prepare(report)


def make_classifier(arguments: argparse.Namespace, report: Report) -> TextClassifier | TaughtClassifier:
    """
    Raises:
        UserError: no such task or model, or two that don't belong together.
    """
    artifact = named_model(arguments.model, report)
    name, folder = arguments.task, Path(arguments.task).expanduser()
    reader = WindowReader.of(artifact, artifact.load_tokenizer())
    engine = EncoderEngine(artifact, arguments.precision)
    # A task's own name comes before a folder that happens to be called so.
    if name in CLASSIFICATION:
        return TextClassifier(engine, reader, shipped_task(name, artifact))
    taught = folder if folder.is_file() else folder / TAUGHT_FILE
    if taught.is_file():
        return TaughtClassifier(FeatureReader(engine, reader), from_file(taught, artifact))
    return TextClassifier(engine, reader, load_task(folder, artifact))
