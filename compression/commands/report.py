"""Put the results of recipes beside each other: pictures of quality against size and speed, and all figures.

  python -m compression report fast half tiny --out comparison

Writes comparison.html (one file, also for printing), comparison.png and comparison.json.
"""

import argparse
from pathlib import Path

from compression.report import write_report
from compression.results import read_results
from gpt_tasks.errors import UserError

SUMMARY = "compare the results of recipes in one report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a recipe's folder, or its results.json")
    parser.add_argument("--out", type=Path, default=Path("report"), metavar="PATH", help="without an ending")


def run(arguments: argparse.Namespace) -> None:
    if not arguments.out.name:
        raise UserError(f"--out {arguments.out} names no file. Give one without an ending, such as comparison.")
    if not arguments.out.parent.is_dir():
        raise UserError(f"There is no folder {arguments.out.parent}.")
    print(write_report([read_results(path) for path in arguments.runs], arguments.out))
