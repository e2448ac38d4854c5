"""Texts that a person names: a file, or a folder of them."""

from pathlib import Path

from gpt_tasks.errors import UserError


def read_text(path: Path) -> str:
    """
    Raises:
        UserError: no such file, or no UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text in UTF-8 ({error.reason} at byte {error.start}).") from error


def read_texts(path: Path) -> list[str]:
    """A text file, or all .txt files of a folder in the order of their names.

    Raises:
        UserError: nothing there, not UTF-8, or all of it empty.
    """
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} has no .txt files. Name a text file, or a folder with some.")
    texts = [read_text(file) for file in files]
    if not any(text.strip() for text in texts):
        raise UserError(f"{path} has no text in it.")
    return texts
