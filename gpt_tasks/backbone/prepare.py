"""Makes the default model ready to run: weights fetched, graphs exported, once for all runs."""

import sys
from pathlib import Path

from gpt_tasks.backbone.artifact import FORMAT, Artifact
from gpt_tasks.backbone.default_model import GGUF_SHA256, default_gguf
from gpt_tasks.child_process import failure_of, start_command
from gpt_tasks.errors import UserError
from gpt_tasks.home import home, only_one, writable_home
from gpt_tasks.progress import Progress, Report, silent
from gpt_tasks.progress_output import parse_json_line

PRECISIONS = ("fp32", "int8")
_PROJECT = Path(__file__).resolve().parents[2]
_CALIBRATION = _PROJECT / "assets" / "calibrations" / "smollm2-135m-instruct.safetensors"
"""of int8, made with `python -m compression calibrate default`: an export with it needs no PyTorch and seconds"""


def prepare(report: Report = silent, verify: bool = False) -> Artifact:
    """The default model's artifact in the cache folder, downloaded and exported if it isn't there.

    Several processes may ask at once: one works, the others wait for it.

    Args:
        verify: compare every file's hash, and make the folder again where one is wrong

    Raises:
        UserError: see `default_gguf`; a cache that can't be written; an export that failed.
    """
    # The name says what is in it: other weights or a newer exporter are another folder.
    folder = home() / "models" / f"smollm2-135m-instruct-{GGUF_SHA256[:8]}-v{FORMAT}"
    artifact = _existing(folder, verify, report)  # before anything is written: a finished cache may be read-only
    if artifact is not None:
        return artifact
    writable_home()
    folder.parent.mkdir(exist_ok=True)
    with only_one(folder.parent, "prepare", waiting=lambda: report(Progress("waiting"))):
        artifact = _existing(folder, verify, report)  # another process may have made it meanwhile
        if artifact is None:
            default_gguf(report)
            _export_in_child(folder, report)
            artifact = Artifact(folder)
    return artifact


def _existing(folder: Path, verify: bool, report: Report) -> Artifact | None:
    if not folder.exists():
        return None
    try:
        artifact = Artifact(folder)
        if verify:
            report(Progress("verifying", detail=folder.name))
            artifact.verify()
    except UserError as error:
        sys.stderr.write(f"{error} Exporting it again.\n")
        return None
    return artifact


def _export_in_child(folder: Path, report: Report) -> None:
    """In a process of its own, so that the memory of the export goes back to the system."""
    options = [option for precision in PRECISIONS for option in ("--precision", precision)]
    options += ["--progress", "json", "--no-check", "--calibrated", str(_CALIBRATION)]
    child = start_command("compression", "export", "default", str(folder), *options)
    said = []
    try:
        for line in child.stderr:
            try:
                report(parse_json_line(line))
            except ValueError:
                said.append(line.strip())
    except BaseException:
        child.terminate()
        raise
    finally:
        child.wait()
    if child.returncode != 0:
        reason = failure_of(child, said)
        raise UserError(f"The model could not be exported: {reason}", key="export_failed", reason=reason)
