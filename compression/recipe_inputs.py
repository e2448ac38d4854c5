"""What a recipe's steps read besides the model: all of it is looked at before the first step runs."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from compression.recipe import Recipe
from compression.recipe_options import Evaluate, Export, Prune, Recover, Step, TaskScore, Teaching
from compression.texts import read_text, read_texts
from compression.variants import shipped_correction
from gpt_tasks.backbone.adapter import ADAPTER_FILE, CONFIG_FILE
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.text_files import read_text_file
from gpt_tasks.tasks.trained_task import HEAD_FILE, SETTINGS_FILE

_ADAPTER_FILES = (CONFIG_FILE, ADAPTER_FILE)


def input_hashes(recipe: Recipe, text: str | None) -> list[str]:
    """Of each step, a hash of the content that it reads, so that another content makes it run again.

    Args:
        text: stands in for the text that distill and recover name

    Raises:
        UserError: something isn't there or can't be read, or a step that trains has no text.
    """
    if text is not None:
        read_texts(Path(text).expanduser())  # said too where no step reads it
    hashes = []
    for number, (name, step) in enumerate(recipe.steps, 1):
        digest = hashlib.sha256()
        try:
            for content in _contents(step, text):
                digest.update(hashlib.sha256(content).digest())
        except UserError as error:
            raise UserError(f"The recipe {recipe.name}, step {number}, {name}: {error}") from error
        hashes.append(digest.hexdigest())
    return hashes


def _contents(step: Step, text: str | None) -> Iterator[bytes]:
    if isinstance(step, Teaching):
        yield from _taught_by(step, text)
    if isinstance(step, Prune) and step.text is not None:
        yield from _texts(step.text)
    if isinstance(step, Export) and step.calibration is not None:
        yield read_text(Path(step.calibration).expanduser()).encode()
    if isinstance(step, Evaluate):
        if step.text is not None:
            yield read_text(Path(step.text).expanduser()).encode()
        for score in step.tasks:
            yield from _task(score)


def _texts(named: str) -> Iterator[bytes]:
    return (text.encode() for text in read_texts(Path(named).expanduser()))


def _taught_by(step: Teaching, text: str | None) -> Iterator[bytes]:
    named = text or step.text
    if named is not None:
        yield from _texts(named)
        if isinstance(step, Recover) and step.start is not None:
            yield from _correction(step.start)
    elif isinstance(step, Recover) and step.adapter is not None:
        yield from _correction(step.adapter)
    else:
        raise UserError("it trains, and needs a text: give run's --text, or a text in the recipe.")


def _correction(named: str) -> Iterator[bytes]:
    folder = shipped_correction(named)
    return (_read(folder / name, f"{folder} is not a LoRA adapter in PEFT's format") for name in _ADAPTER_FILES)


def _task(score: TaskScore) -> Iterator[bytes]:
    folder, data = Path(score.task).expanduser(), Path(score.data).expanduser()
    for name in (SETTINGS_FILE, HEAD_FILE):
        yield _read(folder / name, f"{folder} is not a trained task")
    for name in _ADAPTER_FILES:
        if (folder / name).is_file():  # not where the head alone was trained
            yield (folder / name).read_bytes()
    read_text_file(data, labelled=True)
    yield data.read_bytes()


def _read(path: Path, otherwise: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{otherwise} ({path.name}: {error.strerror}).") from error
