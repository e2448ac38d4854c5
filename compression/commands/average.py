"""Average corrections of one pruned model into one (a model soup).

  python -m compression average pruned-30 more/adapter --out both

It is as large as one of them, and knows the texts of all, where one went on from the other (distill --start) or all
from a third. A recipe applies it (recover: {adapter: both}), and distill --start goes on from it.
"""

import argparse
from pathlib import Path

from compression.correction_soup import average_corrections
from compression.variants import shipped_correction

SUMMARY = "average LoRA corrections into one (a model soup)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "corrections",
        nargs="+",
        metavar="CORRECTION",
        help="one that comes along (half-depth, pruned-30), or the adapter/ of a student that distill taught with LoRA",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the new correction's folder")


def run(arguments: argparse.Namespace) -> None:
    average_corrections([shipped_correction(named) for named in arguments.corrections], arguments.out)
    print(f"{arguments.out}: the mean of {', '.join(arguments.corrections)}")
