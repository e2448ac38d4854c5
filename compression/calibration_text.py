"""The calibration text that comes with the project."""

from pathlib import Path

_TEXT = Path(__file__).resolve().parents[1] / "assets" / "texts" / "calibration.txt"


def default_calibration_text() -> str:
    """Texts that the default model wrote itself, on subjects of all kinds; disjoint from the check's text."""
    return _TEXT.read_text("utf-8")
