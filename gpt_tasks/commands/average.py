"""Average trained classifications into one: a model soup.

It is as large and as fast as one of them, and often better than each, where they began alike (the same data, seed and
rank) and were trained differently long, or at other rates; or where they went on from one (train --start, other seeds).
"""

import argparse
import sys
from pathlib import Path

from gpt_tasks.backbone.artifact import preferred_precision
from gpt_tasks.commands.classification_options import named_model
from gpt_tasks.progress import Progress
from gpt_tasks.progress_output import make_reporter
from gpt_tasks.tasks.text_files import read_text_file

SUMMARY = "average trained classifications into one (a model soup)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of trained classifications")
    parser.add_argument("--data", required=True, type=Path, metavar="FILE", help="labelled texts to calibrate with")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the new task's folder")
    parser.add_argument("--model", metavar="ARTIFACT", help="an exported model (default: the default model)")
    parser.add_argument("--precision", help="one of the model's (default: int8)")
    parser.add_argument("--progress", choices=["bar", "json", "none"], default="bar")


def run(arguments: argparse.Namespace) -> None:
    from gpt_tasks.training.soup import average_tasks

    rows = read_text_file(arguments.data, labelled=True)
    folders = [folder.expanduser() for folder in arguments.folders]
    with make_reporter(arguments.progress) as report:
        artifact = named_model(arguments.model, report)
        precision = arguments.precision or preferred_precision(artifact.precisions)
        accuracy = average_tasks(
            folders,
            rows,
            artifact,
            precision,
            arguments.out,
            lambda count: report(Progress("classifying", count, len(rows), "texts")),
        )
    sys.stdout.write(f"{arguments.out}: accuracy on {arguments.data.name} {100 * accuracy:.2f} % ({precision})\n")
