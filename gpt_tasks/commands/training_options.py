"""How a training goes, as both commands that train take it."""

import argparse


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """What a task's training and a distillation have in common; their defaults for the rest differ."""
    parser.add_argument("--accumulation", type=int, default=1, help="batches before a step (default: %(default)s)")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the layers first: a minute, and a C++ compiler, for steps in about 3/4 of the time",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint of a stopped run")
    parser.add_argument("--progress", choices=["bar", "json", "none"], default="bar")
