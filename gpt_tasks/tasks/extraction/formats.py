"""What was found, as JSON, CSV and CoNLL."""

import csv
import io
from collections.abc import Sequence

from gpt_tasks.tasks.extraction.text_extraction import Extracted, TextSpan
from gpt_tasks.tasks.extraction.words import find_words

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
    """A word a line with its BIO tag, an empty line between paragraphs; of events, the triggers."""
    spans = found.entities or [event.trigger for event in found.events]
    return _conll(text, sorted(spans, key=lambda span: span.start))


def _conll(text: str, spans: Sequence[TextSpan]) -> str:
    # Hyphened words are apart where a span says so: with the finer words, every span's edges are words' edges.
    lines, number, before = [], 0, 0
    for word in find_words(text, split_hyphens=True):
        if text.count("\n", before, word.start) > 1 and lines:
            lines.append("")
        before = word.end
        while number < len(spans) and spans[number].end <= word.start:
            number += 1
        tag = "O"
        if number < len(spans) and spans[number].start <= word.start:
            tag = f"{'B' if spans[number].start == word.start else 'I'}-{spans[number].label}"
        lines.append(f"{text[word.start : word.end]}\t{tag}")
    return "\n".join(lines) + "\n"
