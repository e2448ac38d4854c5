"""Measure a classification task on labelled texts: a .jsonl or .csv file with text and label."""

import argparse
import json
import sys
from pathlib import Path

from gpt_tasks.commands.classification_options import add_task_arguments, make_classifier
from gpt_tasks.progress import Progress
from gpt_tasks.progress_output import make_reporter
from gpt_tasks.tasks.text_files import read_text_file

SUMMARY = "measure a classification task: accuracy, F1, calibration, speed"
_FIGURES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "expected_calibration_error": "expected calibration error",
    "in_scope_accuracy": "accuracy in scope",
    "out_of_scope_recall": "out-of-scope recall",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task_arguments(parser)
    parser.add_argument("--data", required=True, type=Path, metavar="FILE", help="labelled texts")


def run(arguments: argparse.Namespace) -> None:
    from gpt_tasks.tasks.evaluation import evaluate_classifier  # scikit-learn: only this command needs it

    rows = read_text_file(arguments.data, labelled=True)
    with make_reporter(arguments.progress) as report:
        classifier = make_classifier(arguments, report)
        figures = evaluate_classifier(
            classifier, rows, lambda count: report(Progress("classifying", count, len(rows), "texts"))
        )
    if arguments.json:
        sys.stdout.write(json.dumps(figures, ensure_ascii=False, indent=2) + "\n")
        return
    for key, name in _FIGURES.items():
        if figures.get(key) is not None:
            sys.stdout.write(f"{name:<28}{100 * figures[key]:6.2f} %\n")
    sys.stdout.write(f"{'texts a second':<28}{figures['texts_per_second']:6.1f}\n")
