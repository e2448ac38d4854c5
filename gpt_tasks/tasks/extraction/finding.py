"""Features of sentences in, spans and links out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpt_tasks.backbone.adapter import Adapter
from gpt_tasks.backbone.encoder_engine import BATCH_TOKENS, EncoderEngine, length_batches
from gpt_tasks.tasks.extraction.annotations import Span
from gpt_tasks.tasks.extraction.evaluation import Prediction
from gpt_tasks.tasks.extraction.head import ExtractionHead, FoundLink, FoundSpan
from gpt_tasks.tasks.extraction.reading import Row, kept, shared_ids

_BATCH_WORDS = 1024  # padding counted


@dataclass(frozen=True)
class Found:
    """In a sentence, in its words."""

    spans: Sequence[FoundSpan]
    links: Sequence[FoundLink]

    def prediction(self) -> Prediction:
        return Prediction([found.span for found in self.spans], [found.link for found in self.links])


def read_features(engine: EncoderEngine, rows: Sequence[Row], adapter: Adapter | None = None) -> list[np.ndarray]:
    """Of each row, [words, depth, hidden]: what the backbone's layers say at each word's last token."""
    features: list[np.ndarray | None] = [None] * len(rows)
    groups = shared_ids(rows)
    for batch in length_batches([len(rows[group[0]].ids) for group in groups], BATCH_TOKENS):
        layers, _ = engine.layers([rows[groups[number][0]].ids for number in batch], adapter)
        for place, number in enumerate(batch):
            for index in groups[number]:
                ends = list(rows[index].ends)
                features[index] = np.stack([layer[place, ends] for layer in layers], axis=1)
    return features


def contextual_rows(head: ExtractionHead, features: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Of each row, its number and y [words, width]; in the order of their lengths."""
    for batch in length_batches([len(row) for row in features], _BATCH_WORDS):
        lengths = [len(features[index]) for index in batch]
        padded = np.zeros((len(batch), max(lengths), head.depth, head.hidden_size), np.float32)
        for place, index in enumerate(batch):
            padded[place, : lengths[place]] = features[index]
        for index, length, y in zip(batch, lengths, head.contextual(padded, lengths), strict=True):
            yield index, y[:length]


def find(head: ExtractionHead, sentences: Sequence[Sequence[Row]], features: Sequence[np.ndarray]) -> list[Found]:
    """
    Args:
        sentences: the rows of each
        features: of all rows, one after the other
    """
    by_row: list[Found | None] = [None] * len(features)
    for index, y in contextual_rows(head, features):
        spans = head.spans(head.tag_scores(y))
        by_row[index] = Found(spans, head.related(y, [found.span for found in spans]))
    found, first = [], 0
    for rows in sentences:
        found.append(_merge(rows, by_row[first : first + len(rows)]))
        first += len(rows)
    return found


def _merge(rows: Sequence[Row], parts: Sequence[Found]) -> Found:
    """One sentence from its rows: each answers for the spans that begin in its own part, and for their links."""
    if len(rows) == 1:
        return parts[0]
    spans: list[FoundSpan] = []
    links: list[FoundLink] = []
    for place, (row, part) in enumerate(zip(rows, parts, strict=True)):
        begin, end = kept(rows, place)
        for found in part.spans:
            moved = _moved(found.span, row.first)
            if begin <= moved.start < end and not any(_overlap(moved, other.span) for other in spans):
                spans.append(FoundSpan(moved, found.confidence))
        kept_spans = {found.span for found in spans}
        for link in part.links:
            moved_link = replace(link, head=_moved(link.head, row.first), tail=_moved(link.tail, row.first))
            ends_here = begin <= max(moved_link.head.start, moved_link.tail.start) < end
            if ends_here and {moved_link.head, moved_link.tail} <= kept_spans:
                links.append(moved_link)
    return Found(sorted(spans, key=lambda found: found.span), links)


def _moved(span: Span, words: int) -> Span:
    return replace(span, start=span.start + words, end=span.end + words)


def _overlap(one: Span, other: Span) -> bool:
    return one.layer == other.layer and one.start < other.end and other.start < one.end


def relate(
    head: ExtractionHead,
    sentences: Sequence[Sequence[Row]],
    features: Sequence[np.ndarray],
    pairs: Sequence[tuple[Span, Span]],
) -> list[FoundLink]:
    """How a given pair of each sentence is related; the label may be the one for no relation.

    Args:
        pairs: head and tail in each sentence's words
    """
    contextual = dict(contextual_rows(head, features))
    found, first = [], 0
    for rows, pair in zip(sentences, pairs, strict=True):
        # The row that has most of what lies between them.
        place = max(range(len(rows)), key=lambda index: _shared(rows[index], pair))
        y, row = contextual[first + place], rows[place]
        here = tuple(_clipped(_moved(span, -row.first), len(row.ends)) for span in pair)
        probabilities = head.link_probabilities(y, [here])[0]
        best = int(probabilities.argmax())
        found.append(FoundLink(*pair, head.links.labels[best], float(probabilities[best])))
        first += len(rows)
    return found


def _shared(row: Row, pair: tuple[Span, Span]) -> int:
    begin, end = min(span.start for span in pair), max(span.end for span in pair)
    return min(end, row.first + len(row.ends)) - max(begin, row.first)


def _clipped(span: Span, words: int) -> Span:
    start = min(max(0, span.start), words - 1)
    return replace(span, start=start, end=min(max(start + 1, span.end), words))
