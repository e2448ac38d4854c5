"""JSON files of a model's folder."""

import json
import os
from pathlib import Path

from gpt_tasks.errors import UserError


def read_json(path: Path) -> dict:
    """
    Raises:
        UserError: the file isn't there, or isn't a JSON object.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} has no {path.name}.") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not readable as JSON ({error}).") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object.")
    return value


def write_json(path: Path, value: object) -> None:
    """Whole or not at all: a full disk or a kill leaves what was there before."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
