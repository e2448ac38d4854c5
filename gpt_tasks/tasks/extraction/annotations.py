"""Corpora with marked spans and links between them, read from JSON lines.

Three kinds of rows, told apart by their keys (a span is [first, end): numbers of tokens, the end exclusive):

tokens, tags (BIO), and, where it has them, relations: [{head, tail, relation}]    entities, and what links them
tokens, head, tail, relation                                                       one pair with its relation
tokens, triggers: [{start, end, type}], arguments: [{trigger, start, end, role}]   events
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpt_tasks.errors import UserError

ENTITY, TRIGGER, ARGUMENT, PART = "entity", "trigger", "argument", "part"
"""Layers: within one, spans don't overlap. The parts of arguments (roles with a dot, as `Treatment.Drug`) lie
inside these."""
NO_RELATION = frozenset({"no_relation", "Other", "none"})
"""Names that corpora give to pairs without a relation."""


@dataclass(frozen=True, order=True)
class Span:
    """Words [start, end) of a sentence."""

    start: int
    end: int
    label: str
    layer: str


@dataclass(frozen=True)
class Link:
    head: Span
    tail: Span
    label: str


@dataclass(frozen=True)
class Sentence:
    tokens: tuple[str, ...]
    spans: tuple[Span, ...]
    links: tuple[Link, ...]
    given: bool
    """The only question is how `links`' spans are related: others may be in the sentence, unmarked."""
    document: str | None = None
    """that it is from, together with the rows around it; None: not told"""


def read_annotated(path: Path) -> list[Sentence]:
    """
    Raises:
        UserError: no such file, not UTF-8, no rows, a row that isn't as it should be (with its line).
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(_parse(json.loads(line)))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
                reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
                raise UserError(
                    f"{path}, line {number}: {reason}. A row has tokens and tags; or tokens, head, tail and relation; "
                    "or tokens, triggers and arguments."
                ) from error
    if not rows:
        raise UserError(f"{path} has no rows.")
    if len({row.given for row in rows}) > 1:
        raise UserError(f"{path} mixes rows with given pairs and rows with tags.")
    return rows


def _parse(row: Mapping) -> Sentence:
    """
    Raises:
        ValueError, KeyError, TypeError, IndexError, AttributeError: a row that isn't one of the three kinds.
    """
    document = row.get("doc")
    return replace(_parse_marks(row), document=None if document is None else str(document))


def _parse_marks(row: Mapping) -> Sentence:
    tokens = tuple(row["tokens"])
    if not tokens or not all(isinstance(token, str) for token in tokens):
        raise ValueError("tokens must be a list of texts, at least one")
    if "relation" in row:
        head, tail = (_span(row[part], ENTITY, row.get(f"{part}_type", ENTITY), tokens) for part in ("head", "tail"))
        return Sentence(tokens, (head, tail), (Link(head, tail, row["relation"]),), given=True)
    if "triggers" in row:
        return _parse_events(row, tokens)
    spans = tuple(Span(*span, ENTITY) for span in bio_spans(row["tags"]))
    if len(row["tags"]) != len(tokens):
        raise ValueError(f"there are {len(tokens)} tokens and {len(row['tags'])} tags")
    by_place = {(span.start, span.end): span for span in spans}
    links = tuple(
        Link(by_place[tuple(link["head"])], by_place[tuple(link["tail"])], link["relation"])
        for link in row.get("relations", ())
    )
    return Sentence(tokens, spans, links, given=False)


def _parse_events(row: Mapping, tokens: Sequence[str]) -> Sentence:
    triggers = [_span([t["start"], t["end"]], TRIGGER, t["type"], tokens) for t in row["triggers"]]
    arguments: dict[tuple[int, int, str], Span] = {}
    links = []
    for argument in row.get("arguments", ()):
        role = argument["role"]
        layer = PART if "." in role else ARGUMENT
        place = argument["start"], argument["end"], layer
        # Of one place the first role is the span's label; every link has its own.
        span = arguments.setdefault(place, _span(place[:2], layer, role, tokens))
        links.append(Link(triggers[argument["trigger"]], span, role))
    return Sentence(tuple(tokens), (*triggers, *arguments.values()), tuple(links), given=False)


def _span(place: Sequence[int], layer: str, label: str, tokens: Sequence[str]) -> Span:
    start, end = place
    if not 0 <= start < end <= len(tokens):
        raise ValueError(f"the span {list(place)} is not inside the {len(tokens)} tokens")
    return Span(start, end, label, layer)


def bio_spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(start, end, label) of strict BIO tags: an I- that doesn't go on is no part of a span."""
    found: list[tuple[int, int, str]] = []
    open_span: tuple[int, str] | None = None
    for index, tag in enumerate([*tags, "O"]):
        if open_span is not None and tag != f"I-{open_span[1]}":
            found.append((open_span[0], index, open_span[1]))
            open_span = None
        if tag.startswith("B-"):
            open_span = index, tag[2:]
    return found


def bio_tags(spans: Sequence[Span], length: int) -> list[str]:
    """The tags of spans of one layer. Of two that overlap, the longer is kept."""
    tags = ["O"] * length
    for span in sorted(spans, key=lambda span: (span.start - span.end, span.start)):
        if all(tag == "O" for tag in tags[span.start : span.end]):
            tags[span.start] = f"B-{span.label}"
            tags[span.start + 1 : span.end] = [f"I-{span.label}"] * (span.end - span.start - 1)
    return tags
