"""Reads texts, with their labels where they have some, from what people have: CSV, JSON lines, plain lines."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt_tasks.backbone.tokenizer import replace_surrogates
from gpt_tasks.errors import UserError

_DELIMITERS = ",;\t"
_NO_DELIMITER = "\x1f"  # the unit separator: no text has it
csv.field_size_limit(10**8)  # a whole book in one field is no reason to fail


MOST_CHARACTERS = 2_000_000
"""of one text: a long novel, a quarter of an hour to read"""


@dataclass(frozen=True)
class LabelledText:
    text: str
    label: str | None
    line: int
    """in the file, from 1"""


def require_at_most(count: int, most: int) -> None:
    """
    Raises:
        UserError: more texts than that.
    """
    if count > most:
        raise UserError(
            f"{count:,} texts are more than the {most:,} that are taken at once. Split them up, or leave some out.",
            key="too_many_texts",
            texts=count,
            most=most,
        )


def require_length(text: str, most: int = MOST_CHARACTERS, name: str = "The text") -> None:
    """
    Args:
        most: characters
        name: of the text, for the message

    Raises:
        UserError: it is longer.
    """
    if len(text) > most:
        raise UserError(
            f"{name} has {len(text):,} characters; at most {most:,} are taken at once. Split it up.",
            key="text_too_long",
            characters=len(text),
            most=most,
        )


def read_text_file(path: Path, labelled: bool = False) -> list[LabelledText]:
    """`.jsonl` (objects with "text" and "label"), `.csv` and `.tsv` (a header with these columns), or any other
    name: one text a line.

    Args:
        labelled: every row must have a label

    Raises:
        UserError: no such file, not UTF-8, no rows, a row that isn't as it should be (with its line).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}).", key="file_unreadable", file=path.name) from error
    return parse_texts(content, path.name, labelled)


def parse_texts(content: bytes, name: str, labelled: bool = False) -> list[LabelledText]:
    """As `read_text_file`, from a file's bytes; `name` tells the kind."""
    try:
        text = content.decode("utf-8-sig")  # a byte order mark is no part of the first word
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is not UTF-8 (byte {error.start}). Save it as UTF-8.", key="file_not_utf8", file=name
        ) from error
    kind = Path(name).suffix.lower()
    if kind in (".jsonl", ".json"):
        rows = _parse_json_lines(text, name)
    elif kind in (".csv", ".tsv"):
        rows = _parse_table(text, name)
    else:
        rows = [LabelledText(line, None, number) for number, line in enumerate(_lines(text), 1) if line.strip()]
    if not rows:
        raise UserError(f"{name} has no texts.", key="file_empty", file=name)
    for row in rows:
        if not row.text.strip():
            raise UserError(
                f"{name}, line {row.line}: the text is empty. Write something in it, or leave the line out.",
                key="file_text_empty",
                file=name,
                line=row.line,
            )
    if labelled:
        _require_labels(rows, name)
    return rows


def _lines(text: str) -> list[str]:
    """Split at line ends alone: str.splitlines would also split at characters that stand inside texts."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _parse_json_lines(text: str, name: str) -> list[LabelledText]:
    rows = []
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{name}, line {number}: this is not JSON ({error}). A .jsonl file has one object a line.",
                key="file_not_json",
                file=name,
                line=number,
            ) from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise UserError(
                f'{name}, line {number}: an object with "text" is wanted, such as {{"text": "...", "label": "..."}}.',
                key="file_no_text",
                file=name,
                line=number,
            )
        label = row.get("label")
        # A text in JSON may have half characters, which no file takes.
        label = None if label is None else replace_surrogates(str(label).strip())
        rows.append(LabelledText(replace_surrogates(row["text"]), label, number))
    return rows


def _parse_table(text: str, name: str) -> list[LabelledText]:
    header = _lines(text)[0]
    # The delimiter is the one that makes a column "text" of the header: spreadsheets write what their country wants.
    # Where "text" is the only column, commas are the texts' own.
    alone = header.strip().strip('"').lower() == "text"
    for delimiter in _NO_DELIMITER if alone else _DELIMITERS:
        columns = [column.strip().lower() for column in next(csv.reader([header], delimiter=delimiter), [])]
        if "text" in columns:
            break
    else:
        raise UserError(
            f"{name} has no column 'text': its first line is {header[:80]!r}. The first line must name the columns, "
            "text and (for labelled examples) label, separated by commas, semicolons or tabs.",
            key="file_no_column",
            file=name,
            header=header[:80],
        )
    text_column, label_column = columns.index("text"), columns.index("label") if "label" in columns else None
    rows = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    next(reader)
    try:
        for row in reader:
            if not any(field.strip() for field in row):
                continue
            if len(row) != len(columns):
                raise UserError(
                    f"{name}, line {reader.line_num}: {len(row)} columns, but the header has {len(columns)}. A text "
                    "with the delimiter or a line break in it must stand in quotes.",
                    key="file_columns",
                    file=name,
                    line=reader.line_num,
                    found=len(row),
                    wanted=len(columns),
                )
            label = None if label_column is None else row[label_column].strip()
            rows.append(LabelledText(row[text_column], label, reader.line_num))
    except csv.Error as error:
        raise UserError(
            f"{name}, line {reader.line_num}: {error}.", key="file_csv", file=name, line=reader.line_num, reason=error
        ) from error
    return rows


def _require_labels(rows: Sequence[LabelledText], name: str) -> None:
    for row in rows:
        if row.label is None or not row.label.strip():
            raise UserError(
                f"{name}, line {row.line}: the label is missing or empty. Every example needs one (a column or key "
                "'label').",
                key="file_no_label",
                file=name,
                line=row.line,
            )
