"""How a long piece of work tells how far it is: one report type for a terminal, a page and a log."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal[
    "waiting",
    "downloading",
    "verifying",
    "exporting",
    "loading",
    "reading",
    "calibrating",
    "checking",
    "training",
    "classifying",
    "encoding",
    "extracting",
    "pruning",
    "teaching",
    "writing",
    "measuring",
]


@dataclass(frozen=True)
class Progress:
    """One step forward.

    `done` and `total` count `unit`s ("bytes", "tensors"); a total of 0 means that it isn't known.
    """

    stage: Stage
    done: int = 0
    total: int = 0
    unit: str = ""
    detail: str = ""
    """what is being worked on, such as the precision that is exported"""
    note: str = ""
    """what changes with every step, such as the loss"""
    per_second: float = 0.0
    """speed in units a second; 0 where it isn't measured"""


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """For callers that don't ask."""
