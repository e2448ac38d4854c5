"""Calibrate int8 for a model, and keep the result in a file.

An export with --calibrated takes it from there: seconds instead of minutes, and byte for byte the same files.

  python -m compression calibrate default calibration.safetensors
  python -m compression export default my-model --precision int8 --calibrated calibration.safetensors
"""

import argparse
import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from compression.calibrated_int8 import calibration_bytes, read_calibration
from compression.calibration_text import default_calibration_text
from compression.mixed_int8 import MixedInt8
from compression.model_or_artifact import open_model_or_artifact
from compression.planning import INT8_BUDGETS
from compression.texts import read_text
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.progress import Progress
from gpt_tasks.progress_output import make_reporter

SUMMARY = "calibrate int8 for a model, once for many exports"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="as in export")
    parser.add_argument(
        "out", metavar="FILE", type=Path, help="the file to write; an older calibration there is replaced"
    )
    parser.add_argument("--calibration", metavar="FILE", type=Path, help="a text, as in export")
    parser.add_argument("--progress", choices=("bar", "json", "none"), default="bar", help="as in export")


def run(arguments: argparse.Namespace) -> None:
    text = default_calibration_text() if arguments.calibration is None else read_text(arguments.calibration)
    if arguments.out.is_file():
        read_calibration(arguments.out)  # raises where it is something else, which would be lost
    part = arguments.out.with_name(f".{arguments.out.name}.part")
    try:
        part.touch()  # before the minutes of work, not after them
        if arguments.out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        part.write_bytes(_calibrate(arguments.model, text, arguments.progress))
        os.replace(part, arguments.out)
    except OSError as error:
        raise UserError(
            f"{arguments.out} can't be written ({error.strerror}). Name a file in a folder that you may write to."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    print(f"Calibrated for {', '.join(INT8_BUDGETS)} -> {arguments.out}")


def _calibrate(name: str, text: str, progress: str) -> bytes:
    """The file's content."""
    with make_reporter(progress) as report, TemporaryDirectory() as folder:
        model = open_model_or_artifact(name, report)
        model.write_tokenizer(Path(folder))
        tokenizer = Tokenizer.from_file(Path(folder) / "tokenizer.json")
        steps = 0

        def done() -> None:
            nonlocal steps
            steps += 1
            report(Progress("calibrating", steps, 0, "steps"))

        return calibration_bytes(MixedInt8(model, tokenizer, text, done), list(INT8_BUDGETS.values()), model)
