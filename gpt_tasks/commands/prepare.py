"""Fetch the default weights and export them, so that everything else starts at once.

Downloads about 93 MB and writes about 700 MB into the cache folder ($GPT_TASKS_HOME). What is there
already is checked against its SHA-256 and, if damaged, made again.
"""

import argparse

from gpt_tasks.backbone.prepare import prepare
from gpt_tasks.progress_output import make_reporter

SUMMARY = "fetch the default weights and export them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        default="bar",
        help="how to tell the progress on standard error (json: one object a line)",
    )


def run(arguments: argparse.Namespace) -> None:
    with make_reporter(arguments.progress) as report:
        artifact = prepare(report, verify=True)
    print(f"Ready: {artifact.folder}")
