"""Teach a classifier from a few labelled texts, in seconds: a .csv or .jsonl file with text and label.

The backbone stays as it is. Use the result with: python -m gpt_tasks classify --task OUT --text "..."
"""

import argparse
import json
import random
import sys
from pathlib import Path

from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.commands.classification_options import named_model
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_replaceable, require_writable, whole_folder
from gpt_tasks.progress import Progress
from gpt_tasks.progress_output import make_reporter
from gpt_tasks.tasks.lesson import PICTURE_NAME, learn
from gpt_tasks.tasks.taught import FeatureReader, Taught, numbered, to_bytes
from gpt_tasks.tasks.text_files import LabelledText, read_text_file
from gpt_tasks.tasks.trained_task import TAUGHT_FILE
from gpt_tasks.tasks.windows import WindowReader

SUMMARY = "teach a classifier from a few examples a label, in seconds"
_MOST_EXAMPLES = 5000  # learning takes the square of that in memory, the cube in time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, type=Path, metavar="FILE", help="labelled texts")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="gets classifier and confusion matrix")
    parser.add_argument("--per-label", type=int, metavar="N", help="draw so many examples of each label")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument("--model", metavar="ARTIFACT", help="an exported model (default: the default model)")
    parser.add_argument("--precision", help="one of the model's (default: int8)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--progress", choices=["bar", "json", "none"], default="bar")


def run(arguments: argparse.Namespace) -> None:
    rows = read_text_file(arguments.data, labelled=True)
    if arguments.per_label is not None:
        rows = _draw(rows, arguments.per_label, arguments.seed)
    if len(rows) > _MOST_EXAMPLES:
        raise UserError(
            f"{len(rows):,} examples are more than the {_MOST_EXAMPLES:,} that can be taught. Draw some with "
            "--per-label N, or train on all with: python -m gpt_tasks train"
        )
    labels, truth = numbered(rows)
    require_replaceable(arguments.out, "a taught classifier", TAUGHT_FILE, {TAUGHT_FILE, PICTURE_NAME})
    require_writable(arguments.out)
    with make_reporter(arguments.progress) as report:
        artifact = named_model(arguments.model, report)
        engine = EncoderEngine(artifact, arguments.precision)
        reader = FeatureReader(engine, WindowReader.of(artifact, artifact.load_tokenizer()))
        features = reader.read(
            [row.text for row in rows], lambda count: report(Progress("encoding", count, len(rows), "texts"))
        )
    with whole_folder(arguments.out) as folder:
        learned = learn(features, truth, labels, folder / PICTURE_NAME)
        (folder / TAUGHT_FILE).write_bytes(to_bytes(Taught(labels, learned, artifact.fingerprint)))
    if arguments.json:
        figures = {"labels": labels, "examples": len(rows), "cross_validated_accuracy": learned.accuracy}
        sys.stdout.write(json.dumps(figures, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(
            f"{arguments.out}: {len(labels)} labels, {len(rows)} examples, cross-validated accuracy "
            f"{100 * learned.accuracy:.1f} %\n"
        )


def _draw(rows: list[LabelledText], count: int, seed: int) -> list[LabelledText]:
    """So many of each label, or all where there are fewer."""
    if count < 2:
        raise UserError(f"--per-label must be at least 2, got {count}.")
    by_label: dict[str, list[LabelledText]] = {}
    for row in rows:
        by_label.setdefault(row.label, []).append(row)
    generator = random.Random(seed)
    return [
        row for label in sorted(by_label) for row in generator.sample(by_label[label], min(count, len(by_label[label])))
    ]
