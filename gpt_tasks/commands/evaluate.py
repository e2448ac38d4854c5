"""Measure a task on labelled data.

Classification: a .jsonl or .csv file with text and label. Extraction (--task entities, relations or events): a .jsonl
file as for `train`; the schema is the one that has the file's labels.
"""

import argparse
import json
import sys
from pathlib import Path

from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.commands.classification_options import add_task_arguments, make_classifier, named_model
from gpt_tasks.commands.extraction_options import SCHEMA_HELP, load_named_extraction
from gpt_tasks.errors import UserError
from gpt_tasks.progress import Progress, Report
from gpt_tasks.progress_output import make_reporter
from gpt_tasks.tasks.extraction.annotations import read_annotated
from gpt_tasks.tasks.extraction.corpus import evaluate_extraction, labels_of
from gpt_tasks.tasks.extraction.extraction_task import SCHEMAS, is_extraction, schema_for
from gpt_tasks.tasks.text_files import read_text_file
from gpt_tasks.tasks.trained_task import CLASSIFICATION

SUMMARY = "measure a task: accuracy, F1, calibration, speed"
_SHARES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "expected_calibration_error": "expected calibration error",
    "in_scope_accuracy": "accuracy in scope",
    "out_of_scope_recall": "out-of-scope recall",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "end_to_end_f1": "end-to-end F1",
    "trigger_f1": "trigger F1",
    "argument_f1": "argument F1",
}
_SPEEDS = {"texts_per_second": "texts a second", "tokens_per_second": "tokens a second"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task_arguments(parser, (*CLASSIFICATION, *SCHEMAS))
    parser.add_argument("--schema", help=f"of an extraction ({SCHEMA_HELP}; default: by the file's labels)")
    parser.add_argument("--data", required=True, type=Path, metavar="FILE", help="labelled data")


def run(arguments: argparse.Namespace) -> None:
    with make_reporter(arguments.progress) as report:
        if arguments.task in SCHEMAS or is_extraction(Path(arguments.task).expanduser()):
            figures = _extraction(arguments, report)
        elif arguments.schema is not None:
            raise UserError("--schema belongs to an extraction: --task entities, relations or events.")
        else:
            figures = _classification(arguments, report)
    if arguments.json:
        sys.stdout.write(json.dumps(figures, ensure_ascii=False, indent=2) + "\n")
        return
    for key, name in _SHARES.items():
        if figures.get(key) is not None:
            sys.stdout.write(f"{name:<28}{100 * figures[key]:6.2f} %\n")
    for key, name in _SPEEDS.items():
        if key in figures:
            sys.stdout.write(f"{name:<28}{figures[key]:6.1f}\n")


def _classification(arguments: argparse.Namespace, report: Report) -> dict:
    from gpt_tasks.tasks.evaluation import evaluate_classifier  # scikit-learn: only this command needs it

    rows = read_text_file(arguments.data, labelled=True)
    classifier = make_classifier(arguments, report)
    return evaluate_classifier(
        classifier, rows, lambda count: report(Progress("classifying", count, len(rows), "texts"))
    )


def _extraction(arguments: argparse.Namespace, report: Report) -> dict:
    sentences = read_annotated(arguments.data)
    artifact = named_model(arguments.model, report)
    schema = arguments.schema
    if schema is None and arguments.task in SCHEMAS:
        schema = schema_for(arguments.task, labels_of(sentences), artifact)
    task = load_named_extraction(arguments.task, schema, artifact)
    engine = EncoderEngine(artifact, arguments.precision)
    return evaluate_extraction(engine, artifact, task, sentences, report)
