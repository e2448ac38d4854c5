"""A recipe's run in a process of its own, for a page that goes on serving: followed, limited, stopped on request."""

import json
import os
import queue
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from threading import Thread
from time import monotonic

import yaml

from compression.recipe import Recipe
from compression.results import RESULTS
from gpt_tasks.child_process import failure_of, start_command
from gpt_tasks.errors import UserError
from gpt_tasks.home import home, only_one, require_free_space, writable_home
from gpt_tasks.progress import Progress
from gpt_tasks.progress_output import parse_json_line

MINUTES_VARIABLE, SIZE_VARIABLE = "GPT_TASKS_JOB_MINUTES", "GPT_TASKS_JOB_MB"
_STEP = re.compile(r"step (\d+) of (\d+): (\S+)")
_LOOK_SECONDS = 0.3
_SIZE_EVERY = 10  # looks
_OWN_TOKENS = 4096  # scored: enough to see what a step costs, while somebody waits
_OWN_KEPT = 3  # folders of recipes that visitors put together


@dataclass(frozen=True)
class Limits:
    """What a job may take, so that a public page survives it."""

    minutes: float = 45
    megabytes: int = 4000
    """10^6 bytes, of its folder"""

    @classmethod
    def from_environment(cls) -> "Limits":
        """
        Raises:
            UserError: a variable that is no number.
        """
        try:
            minutes = float(os.environ.get(MINUTES_VARIABLE) or cls.minutes)
            megabytes = int(os.environ.get(SIZE_VARIABLE) or cls.megabytes)
        except ValueError as error:
            raise UserError(f"{MINUTES_VARIABLE} and {SIZE_VARIABLE} must be numbers ({error}).") from error
        return cls(minutes, megabytes)


@dataclass(frozen=True)
class JobState:
    """How far a job is."""

    step: int = 0
    """the running one, from 1; 0 before the first"""
    steps: int = 0
    name: str = ""
    progress: Progress | None = None
    waiting: bool = False
    """for its turn: one job runs at a time"""


def job_folder(recipe: Recipe) -> Path:
    """Where a recipe's run lies in the cache folder: one for all visitors, since the same recipe gives the same."""
    return home() / "recipes" / recipe.name


def is_built(recipe_name: str) -> bool:
    return (home() / "recipes" / recipe_name / RESULTS).is_file()


def own_recipe(model: str, prune: dict | None, precisions: list[str]) -> dict:
    """A recipe of single steps, as it would stand in a file; its name follows from what it does.

    Args:
        prune: the options of a prune step
    """
    steps: list = [{"prune": prune}] if prune else []
    steps += [{"export": {"precision": precisions}}, {"bench": {"rounds": 1}}, {"evaluate": {"tokens": _OWN_TOKENS}}]
    digest = sha256(json.dumps([model, steps], sort_keys=True).encode()).hexdigest()[:8]
    return {"name": f"own-{digest}", "model": model, "steps": steps}


def write_own(content: dict) -> Path:
    """Keeps a visitor's recipe as a file, which a job takes."""
    folder = writable_home() / "recipes"
    folder.mkdir(exist_ok=True)
    path = folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return path


def _remove_older_own(folder: Path, kept: Path) -> None:
    """Of the visitors' own recipes only the newest few stay. No job runs meanwhile."""
    older = sorted(folder.glob("own-*/"), key=lambda own: -own.stat().st_mtime)
    for own in older[_OWN_KEPT:]:
        if own != kept:
            shutil.rmtree(own)
            own.with_suffix(".yaml").unlink(missing_ok=True)


def follow(recipe: str, out: Path, limits: Limits, stop_asked: Callable[[], bool]) -> Iterator[JobState]:
    """Runs `python -m compression run` and says how far it is, several times a second. Who stops iterating stops
    the job; what its steps have finished is kept for the next one.

    Args:
        recipe: a name or a file
        stop_asked: ends the job when it says so

    Raises:
        UserError: what the job says, or a limit that it passed.
    """
    folder = writable_home() / "recipes"
    folder.mkdir(exist_ok=True)
    require_free_space(folder, limits.megabytes, "compress a model")

    def wait() -> None:
        if stop_asked():
            raise _StoppedWaiting

    yield JobState(waiting=True)
    try:
        with only_one(folder, "job", waiting=wait):
            _remove_older_own(folder, out)
            yield from _follow(recipe, out, limits, stop_asked)
    except _StoppedWaiting:
        return


class _StoppedWaiting(Exception):
    """The visitor has pressed Stop while another job was running."""


def _follow(recipe: str, out: Path, limits: Limits, stop_asked: Callable[[], bool]) -> Iterator[JobState]:
    child = start_command("compression", "run", recipe, "--out", str(out), "--resume", "--progress", "json")
    lines: queue.Queue[str] = queue.Queue()
    reader = Thread(target=lambda: [lines.put(line) for line in child.stderr], daemon=True)
    reader.start()
    state, said, began, looks = JobState(), [], monotonic(), 0
    try:
        while child.poll() is None or reader.is_alive() or not lines.empty():
            try:
                state = _next_state(lines.get(timeout=_LOOK_SECONDS), state, said)
                if not lines.empty():
                    continue
            except queue.Empty:
                pass
            looks += 1
            if stop_asked():
                return
            if monotonic() - began > 60 * limits.minutes:
                raise UserError(
                    f"The job took longer than {limits.minutes:g} minutes and was ended; the steps that were done are "
                    "kept. Start it again to go on.",
                    key="job_too_long",
                    minutes=f"{limits.minutes:g}",
                )
            if looks % _SIZE_EVERY == 0 and _megabytes(out) > limits.megabytes:
                raise UserError(
                    f"The job's folder grew over {limits.megabytes} MB, and it was ended. Export fewer precisions.",
                    key="job_too_large",
                    megabytes=limits.megabytes,
                )
            yield state
    finally:
        if child.poll() is None:
            child.terminate()
        child.wait()
    if child.returncode != 0:
        reason = failure_of(child, said)
        raise UserError(f"The job failed: {reason}", key="job_failed", reason=reason)


def _next_state(line: str, state: JobState, said: list[str]) -> JobState:
    step = _STEP.match(line)
    if step:
        return JobState(int(step[1]), int(step[2]), step[3])
    try:
        return replace(state, progress=parse_json_line(line))
    except ValueError:
        if line.strip():
            said.append(line.strip())
        return state


def _megabytes(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # the job has just removed it
            continue
    return total / 10**6
