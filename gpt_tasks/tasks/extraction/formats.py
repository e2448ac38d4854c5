"""What was found, as JSON, CSV and CoNLL."""

import csv
import io
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gpt_tasks.tasks.extraction.sentences import split_sentences
from gpt_tasks.tasks.extraction.text_extraction import Extracted, TextSpan
from gpt_tasks.tasks.extraction.words import Word, find_words

_COLUMNS = ["kind", "label", "start", "end", "text", "of_label", "of_start", "of_end", "of_text", "confidence"]


def as_record(found: Extracted) -> dict:
    """For JSON; places are characters of the text, the end exclusive."""
    record: dict = {"task": found.task, "schema": found.schema}
    if found.task == "events":
        record["events"] = [
            {
                "type": event.trigger.label,
                "trigger": _span(event.trigger, labelled=False),
                "arguments": [
                    {"role": link.label, **_span(link.tail, labelled=False), "confidence": round(link.confidence, 4)}
                    for link in event.arguments
                ],
            }
            for event in found.events
        ]
        return record
    record["entities"] = [_span(span) for span in found.entities]
    if found.task == "relations":
        record["relations"] = [
            {
                "relation": link.label,
                "head": _span(link.head),
                "tail": _span(link.tail),
                "confidence": round(link.confidence, 4),
            }
            for link in found.relations
        ]
    return record


def _span(span: TextSpan, labelled: bool = True) -> dict:
    record = {"start": span.start, "end": span.end, "text": span.text}
    return {**record, **({"label": span.label} if labelled else {}), "confidence": round(span.confidence, 4)}


def as_csv(found: Extracted) -> str:
    """A row a span or link; a relation or an argument also names what it belongs to (`of_`: the head, the trigger)."""
    output = io.StringIO(newline="")
    writer = csv.writer(output)
    writer.writerow(_COLUMNS)
    for span in found.entities:
        writer.writerow(_row("entity", span.label, span, None, span.confidence))
    for link in found.relations:
        writer.writerow(_row("relation", link.label, link.tail, link.head, link.confidence))
    for event in found.events:
        writer.writerow(_row("event", event.trigger.label, event.trigger, None, event.trigger.confidence))
        for link in event.arguments:
            writer.writerow(_row("argument", link.label, link.tail, event.trigger, link.confidence))
    return output.getvalue()


def _row(kind: str, label: str, span: TextSpan, of: TextSpan | None, confidence: float) -> list:
    owner = ["", "", "", ""] if of is None else [of.label, of.start, of.end, of.text]
    return [kind, label, span.start, span.end, span.text, *owner, f"{confidence:.4f}"]


def as_conll(text: str, found: Extracted) -> str:
    """A word a line with its BIO tag, an empty line after every sentence. Of relations and events a column more for
    each head or trigger of the sentence, in their order, with the BIO tags of what belongs to it; the head or trigger
    itself is HEAD or TRIGGER there (as V in CoNLL-2005).

    A column has no place for a span within another (the longer one stands there) or in another sentence: JSON and CSV
    have them.
    """
    owned: dict[TextSpan, list[TextSpan]] = {}
    for link in found.relations:
        owned.setdefault(link.head, [replace(link.head, label="HEAD")]).append(replace(link.tail, label=link.label))
    for event in found.events:
        arguments = [replace(link.tail, label=link.label) for link in event.arguments]
        owned[event.trigger] = [replace(event.trigger, label="TRIGGER"), *arguments]
    owners = _Sorted(owned)
    spans = _Sorted([*found.entities, *(event.trigger for event in found.events)])
    # Hyphened words are apart where a span says so: with the finer words, every span's edges are words' edges.
    words = find_words(text, split_hyphens=True)
    blocks = []
    for sentence in split_sentences(text, words):
        begin, end = sentence[0].start, sentence[-1].end
        columns = [_tags(sentence, owned[owner]) for owner in owners.between(begin, end)]
        tags = _tags(sentence, spans.between(begin, end))
        rows = zip((text[word.start : word.end] for word in sentence), tags, *columns, strict=True)
        blocks.append("".join("\t".join(row) + "\n" for row in rows))
    return "\n".join(blocks)


class _Sorted:
    """Spans by where they start."""

    def __init__(self, spans: Iterable[TextSpan]) -> None:
        self._spans = sorted(spans, key=lambda span: span.start)
        self._starts = [span.start for span in self._spans]

    def between(self, begin: int, end: int) -> list[TextSpan]:
        """Those that start there."""
        return self._spans[bisect_left(self._starts, begin) : bisect_left(self._starts, end)]


def _tags(words: Sequence[Word], spans: Iterable[TextSpan]) -> list[str]:
    tags = ["O"] * len(words)
    for span in sorted(spans, key=lambda span: span.start - span.end):  # the longest first
        inside = [number for number, word in enumerate(words) if span.start <= word.start < span.end]
        if any(tags[number] != "O" for number in inside):
            continue
        for number in inside:
            tags[number] = f"{'B' if number == inside[0] else 'I'}-{span.label}"
    return tags
