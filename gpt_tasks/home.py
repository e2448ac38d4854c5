"""The cache folder: where weights and exported models are kept between runs."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock, Timeout

from gpt_tasks.errors import UserError

VARIABLE = "GPT_TASKS_HOME"


def home() -> Path:
    """The cache folder: $GPT_TASKS_HOME, or gpt-tasks in the user's cache directory. It may not be there yet."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(VARIABLE) or caches / "gpt-tasks").expanduser().resolve()


def writable_home() -> Path:
    """The cache folder, made if it isn't there.

    Raises:
        UserError: it can't be made or written to.
    """
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = mkdtemp(dir=folder, prefix=".probe-")
        os.rmdir(probe)
    except OSError as error:
        raise UserError(
            f"The cache folder {folder} can't be written to ({error.strerror}). Give it write permission, or "
            f"name another folder in the environment variable {VARIABLE}.",
            key="cache_not_writable",
            folder=folder,
            reason=error.strerror,
        ) from error
    return folder


def require_free_space(folder: Path, megabytes: int, purpose: str) -> None:
    """Says so before the work, not after it, where the disk is too full.

    Args:
        megabytes: 10^6 bytes needed in `folder`
        purpose: completes "... MB are needed to ..."

    Raises:
        UserError: less is free.
    """
    free = shutil.disk_usage(folder).free // 10**6
    if free < megabytes:
        in_cache = folder.resolve().is_relative_to(home())
        raise UserError(
            f"{megabytes} MB are needed to {purpose}, and only {free} MB are free on the disk of {folder}. "
            f"Make room, or name a folder on another disk{f' in {VARIABLE}' if in_cache else ''}.",
            key="disk_full" if in_cache else "disk_full_elsewhere",
            needed=megabytes,
            free=free,
            folder=folder,
        )


@contextmanager
def only_one(folder: Path, name: str, waiting=lambda: None) -> Iterator[None]:
    """Only one process at a time does `name` in `folder`; the others wait, `waiting` being called every second.

    The lock goes with the process that holds it, however that ends.
    """
    lock = process_lock(folder, name)
    while True:
        try:
            lock.acquire(timeout=1)
            break
        except Timeout:
            waiting()
    try:
        yield
    finally:
        lock.release()


def process_lock(folder: Path, name: str) -> FileLock:
    """What `only_one` holds, for those who wait in their own way. Another thread may release it: a page runs the parts
    of a generator in whichever is free."""
    return FileLock(folder / f".{name}.lock", thread_local=False)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder is written beside its final name and renamed, so that a stopped run leaves no half one.

    Yields the folder to write into. If the block ends well it takes the place of `target` (an
    older folder of that name goes only then); if not, it is removed and `target` stays as it was.
    What a killed run left behind is put right by the next one.

    Raises:
        UserError: the parent folder can't be written to.
    """
    target = target.resolve()  # a link stays one, and what it points to is written
    old = target.parent / f".{target.name}.old"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not target.exists():  # killed between the two renames below
            os.replace(old, target)
        _clear_remains(target)
        part = Path(mkdtemp(dir=target.parent, prefix=f"{_part_prefix(target)}{os.getpid()}-"))
    except OSError as error:
        raise UserError(
            f"{target} can't be written ({error.strerror}). Name a folder that you may write to."
        ) from error
    os.chmod(part, 0o755)
    try:
        yield part
        if target.exists():
            os.replace(target, old)
        os.replace(part, target)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def require_writable(target: Path) -> None:
    """Whether `whole_folder` could write there, without leaving anything behind.

    Raises:
        UserError: it could not.
    """
    parent = next(folder for folder in target.resolve().parents if folder.exists())
    try:
        os.rmdir(mkdtemp(dir=parent, prefix=".probe-"))
    except OSError as error:
        raise UserError(
            f"{target} can't be written ({error.strerror}). Name a folder that you may write to."
        ) from error


def require_replaceable(target: Path, kind: str, marker: str, written: Collection[str]) -> None:
    """Whether what is at `target` may go, since `whole_folder` will take its place.

    Args:
        kind: what this project writes there, for the message: "a checkpoint"
        marker: a file that every folder of this kind has
        written: all file names that folders of this kind have

    Raises:
        UserError: there is something else, which would be lost.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    others = ["itself, which is a file"]
    if target.is_dir():
        files = (path.relative_to(target) for path in target.rglob("*") if not path.is_dir())
        others = sorted(str(path) for path in files if path.name not in written)
    if others or not (target / marker).is_file():
        raise UserError(
            f"{target} exists and is not {kind} of this project{f' ({others[0]})' if others else ''}: it is left "
            "alone. Name a new folder."
        )


def _part_prefix(target: Path) -> str:
    return f".{target.name}.part-"


def _clear_remains(target: Path) -> None:
    """Removes the unfinished folders of processes that are gone."""
    for remains in target.parent.glob(f"{_part_prefix(target)}*"):
        process = remains.name.removeprefix(_part_prefix(target)).split("-")[0]
        if not Path("/proc", process).exists():
            shutil.rmtree(remains, ignore_errors=True)
