"""A recipe's run in a process of its own, for a page that goes on serving: followed, limited, stopped on request."""

import json
import os
import queue
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from threading import Thread
from time import monotonic

import yaml
from filelock import FileLock, Timeout

from compression.recipe import Recipe, recipe_names
from compression.recipe_options import Prune, Recover
from compression.results import RESULTS
from gpt_tasks.child_process import failure_of, start_command
from gpt_tasks.errors import UserError
from gpt_tasks.home import home, process_lock, require_free_space, writable_home
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
    """10^6 bytes, of its folder and the zip that is made of its model"""

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


def fits_any_model(recipe: Recipe) -> bool:
    """Layers that it names and a correction that it brings are of its own model only."""
    return not any(
        (isinstance(step, Prune) and step.layers) or (isinstance(step, Recover) and step.adapter)
        for _, step in recipe.steps
    )


def on_model(recipe: Recipe, model: str) -> Recipe:
    """The recipe on another model than its own, under a name of its own, since its results are others."""
    digest = sha256(model.encode()).hexdigest()[:8]
    return recipe.model_copy(update={"name": f"own-{recipe.name}-{digest}", "model": model})


def _source(recipe: Recipe, folder: Path) -> str:
    """What `python -m compression run` takes: a visitor's recipe is written to a file."""
    if recipe.name in recipe_names():
        return recipe.name
    steps = [{name: step.model_dump(mode="json", exclude_unset=True)} for name, step in recipe.steps]
    content = {"name": recipe.name, "summary": recipe.summary, "model": recipe.model, "steps": steps}
    path = folder / f"{recipe.name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return str(path)


def _remove_older_own(folder: Path, recipe: Recipe) -> None:
    """Of the visitors' own recipes only the newest few stay, and what this one needs. No job runs meanwhile."""
    needed = {job_folder(recipe), *Path(recipe.model).parents}
    older = sorted(folder.glob("own-*/"), key=lambda own: -own.stat().st_mtime)[_OWN_KEPT:]
    for own in older:
        if own not in needed:
            shutil.rmtree(own)
    for file in folder.glob("own-*.yaml"):
        if not file.with_suffix("").is_dir():
            file.unlink()


def follow(recipe: Recipe, limits: Limits, stop_asked: Callable[[], bool]) -> Iterator[JobState]:
    """Runs `python -m compression run` in the recipe's `job_folder`, and says how far it is, several times a second.
    One job runs at a time; the others wait here, and say so. Who stops iterating stops the job; what its steps have
    finished is kept for the next one.

    Args:
        stop_asked: ends the job, or the waiting for its turn, when it says so

    Raises:
        UserError: what the job says, or a limit that it passed.
    """
    folder = writable_home() / "recipes"
    folder.mkdir(exist_ok=True)
    require_free_space(folder, limits.megabytes, "compress a model")
    lock = process_lock(folder, "job")
    yield from _wait(lock, stop_asked)
    if not lock.is_locked:
        return
    try:
        job_folder(recipe).mkdir(exist_ok=True)
        os.utime(job_folder(recipe))  # asked for just now: not among the older ones when the next job makes room
        _remove_older_own(folder, recipe)
        yield from _follow(_source(recipe, folder), job_folder(recipe), limits, stop_asked)
    finally:
        lock.release()


def _wait(lock: FileLock, stop_asked: Callable[[], bool]) -> Iterator[JobState]:
    """Until the lock is held, or nobody wants it any more."""
    while not stop_asked():
        yield JobState(waiting=True)
        with suppress(Timeout):
            lock.acquire(timeout=_LOOK_SECONDS)
            return


def _follow(source: str, out: Path, limits: Limits, stop_asked: Callable[[], bool]) -> Iterator[JobState]:
    child = start_command("compression", "run", source, "--out", str(out), "--resume", "--progress", "json")
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
            if looks % _SIZE_EVERY == 0 and _megabytes(out) + _megabytes(out / "model") > limits.megabytes:
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


def packed(recipe: Recipe, folder: Path) -> Path:
    """A finished job's model as a zip in `folder`.

    Raises:
        UserError: a full disk.
    """
    model = job_folder(recipe) / "model"
    needed = 1 + 2 * round(_megabytes(model))  # twice: the page serves a copy
    require_free_space(folder, needed, "pack the model")
    try:
        return Path(shutil.make_archive(str(folder / recipe.name), "zip", model))
    except OSError as error:
        raise UserError(
            f"The model can't be packed ({error.strerror}). Make room on the disk of {folder}, and start again: what "
            "is done is not done again.",
            key="not_packed",
            reason=error.strerror,
            folder=folder,
        ) from error


def _megabytes(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # the job has just removed it
            continue
    return total / 10**6
