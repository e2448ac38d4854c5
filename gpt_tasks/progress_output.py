"""Progress on standard error: a bar for people, JSON lines for programs."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from tqdm import tqdm

from gpt_tasks.progress import Progress, Report, silent

_LABELS = {
    "waiting": "Waiting for another process",
    "downloading": "Downloading weights",
    "verifying": "Verifying",
    "exporting": "Exporting",
    "loading": "Loading",
    "reading": "Reading the prompt",
    "calibrating": "Calibrating",
    "checking": "Checking",
    "training": "Training",
    "classifying": "Classifying",
    "encoding": "Reading the texts",
    "extracting": "Extracting",
    "pruning": "Pruning",
    "teaching": "The teacher reads",
    "writing": "The teacher writes",
    "measuring": "Measuring",
}


@contextmanager
def make_reporter(style: Literal["bar", "json", "none"]) -> Iterator[Report]:
    """A report function for the time of the block."""
    if style == "bar":
        bars = _Bars()
        try:
            yield bars.report
        finally:
            bars.close()
    else:
        yield _write_json_line if style == "json" else silent


def parse_json_line(line: str) -> Progress:
    """The inverse of `--progress json`.

    Raises:
        ValueError: not such a line.
    """
    try:
        return Progress(**json.loads(line))
    except TypeError as error:
        raise ValueError(f"not a progress line: {line!r}") from error


def _write_json_line(progress: Progress) -> None:
    sys.stderr.write(json.dumps(dataclasses.asdict(progress)) + "\n")
    sys.stderr.flush()


class _Bars:
    """One tqdm bar for each stage and detail, the one before closed when the next begins."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._of: tuple[str, str] | None = None

    def report(self, progress: Progress) -> None:
        if self._of != (progress.stage, progress.detail):
            self.close()
            self._of = (progress.stage, progress.detail)
            in_bytes = progress.unit == "bytes"
            self._bar = tqdm(
                bar_format=None if progress.total else "{desc} {elapsed}",
                total=progress.total or None,
                desc=f"{_LABELS[progress.stage]} {progress.detail}".strip(),
                unit="B" if in_bytes else f" {progress.unit}",
                unit_scale=in_bytes,
                mininterval=0.2,
            )
        if progress.note:
            self._bar.set_postfix_str(progress.note, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
