"""An annotated corpus as the backbone reads it, and how well a head does on it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from time import perf_counter

import numpy as np

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.errors import UserError
from gpt_tasks.progress import Progress, Report, silent
from gpt_tasks.tasks.extraction.annotations import (
    ARGUMENT,
    ENTITY,
    NO_RELATION,
    PART,
    TRIGGER,
    Sentence,
)
from gpt_tasks.tasks.extraction.evaluation import (
    Prediction,
    score_entities,
    score_events,
    score_given_pairs,
    score_relations,
)
from gpt_tasks.tasks.extraction.extraction_task import ExtractionTask
from gpt_tasks.tasks.extraction.finding import find, read_features, relate
from gpt_tasks.tasks.extraction.head import ExtractionHead, LinkLabels
from gpt_tasks.tasks.extraction.reading import Row, RowReader, tokens_read
from gpt_tasks.tasks.extraction.words import rejoin

_CHUNK = 256  # sentences whose features are held at once
_LEAST_TOUCHING = 0.01  # of a label's spans


@dataclass(frozen=True)
class Corpus:
    sentences: Sequence[Sentence]
    rows: Sequence[Sequence[Row]]
    """of each sentence"""

    @classmethod
    def read(cls, sentences: Sequence[Sentence], reader: RowReader, split_hyphens: bool) -> "Corpus":
        rows = []
        for document in _documents(sentences):
            words = [rejoin(sentence.tokens, split_hyphens) for sentence in document]
            rows += reader.rows([words[0], *([f" {first}", *rest] for first, *rest in words[1:])])
        return cls(sentences, rows)

    @property
    def all_rows(self) -> list[Row]:
        return [row for rows in self.rows for row in rows]


def _documents(sentences: Sequence[Sentence]) -> Iterator[list[Sentence]]:
    """Those that follow each other in one text; a sentence of no document is alone."""
    for document, group in groupby(sentences, key=lambda sentence: sentence.document):
        if document is None:
            yield from ([sentence] for sentence in group)
        else:
            yield list(group)


def layers_of(sentences: Sequence[Sentence]) -> dict[str, list[str]]:
    """The layers that are marked, with their labels in order."""
    labels: dict[str, set[str]] = {}
    for sentence in sentences:
        for span in sentence.spans:
            labels.setdefault(span.layer, set()).add(span.label)
    return {layer: sorted(labels[layer]) for layer in (ENTITY, TRIGGER, ARGUMENT, PART) if layer in labels}


def touching_labels(sentences: Sequence[Sentence]) -> dict[str, list[str]]:
    """Of each layer, the labels whose spans follow each other without a word between, more often than by mistake."""
    spans: Counter[tuple[str, str]] = Counter()
    touching: Counter[tuple[str, str]] = Counter()
    for sentence in sentences:
        ends = {(span.layer, span.label, span.end) for span in sentence.spans}
        for span in sentence.spans:
            spans[span.layer, span.label] += 1
            touching[span.layer, span.label] += (span.layer, span.label, span.start) in ends
    return {
        layer: [label for label in labels if touching[layer, label] >= _LEAST_TOUCHING * spans[layer, label]]
        for layer, labels in layers_of(sentences).items()
    }


def links_of(sentences: Sequence[Sentence]) -> LinkLabels | None:
    """What may be linked, and how; None where nothing is."""
    found = [link for sentence in sentences for link in sentence.links]
    if not found:
        return None
    labels = {link.label for link in found}
    nothing = sorted(labels & NO_RELATION)[:1] or ["none"]
    # A direction in the names, as in SemEval's, says that pairs come in the order of the text.
    directed = any(label.endswith(("(e1,e2)", "(e2,e1)")) for label in labels)
    return LinkLabels(
        heads=tuple(sorted({link.head.layer for link in found})),
        tails=tuple(sorted({link.tail.layer for link in found})),
        labels=(*nothing, *sorted(labels - NO_RELATION)),
        both_ways=not directed,
    )


def labels_of(sentences: Sequence[Sentence]) -> set[str]:
    """Of spans and of links."""
    spans = {span.label for sentence in sentences for span in sentence.spans}
    return spans | {link.label for sentence in sentences for link in sentence.links}


def predict(head: ExtractionHead, corpus: Corpus, features: Sequence[np.ndarray]) -> list[Prediction]:
    """What a head finds; where pairs are given, each one's relation.

    Args:
        features: of all rows
    """
    if corpus.sentences[0].given:
        pairs = [(sentence.links[0].head, sentence.links[0].tail) for sentence in corpus.sentences]
        found = relate(head, corpus.rows, features, pairs)
        return [Prediction((link.head, link.tail), (link.link,)) for link in found]
    return [found.prediction() for found in find(head, corpus.rows, features)]


def score(head: ExtractionHead, found: Sequence[Prediction], wanted: Sequence[Sentence]) -> dict:
    """The figures of `evaluation` that fit what the corpus marks."""
    if wanted[0].given:
        return score_given_pairs(*([sentence.links[0].label for sentence in side] for side in (found, wanted)))
    if TRIGGER in head.layers:
        return score_events(found, wanted)
    return (score_entities if head.links is None else score_relations)(found, wanted)


def main_figure(figures: Mapping[str, float], given: bool) -> float:
    """What a training makes as large as it can, and what is named first."""
    if given:
        return figures["macro_f1"]
    if "trigger_f1" in figures:
        return (figures["trigger_f1"] + figures.get("argument_f1", figures["trigger_f1"])) / 2
    return figures.get("end_to_end_f1", figures["f1"])


def evaluate_extraction(
    engine: EncoderEngine,
    artifact: Artifact,
    task: ExtractionTask,
    sentences: Sequence[Sentence],
    report: Report = silent,
) -> dict:
    """What `score` gives, and tokens_per_second.

    Raises:
        UserError: labels that the task hasn't got.
    """
    _require_labels(task, sentences)
    settings = task.settings
    reader = RowReader.of(artifact, artifact.load_tokenizer().encode, settings.reading)
    corpus = Corpus.read(sentences, reader, settings.split_hyphens)
    found: list[Prediction] = []
    begin = perf_counter()
    for first in range(0, len(sentences), _CHUNK):
        chunk = Corpus(sentences[first : first + _CHUNK], corpus.rows[first : first + _CHUNK])
        found += predict(task.head, chunk, read_features(engine, chunk.all_rows, task.adapter))
        report(Progress("extracting", len(found), len(sentences), "sentences"))
    seconds = perf_counter() - begin
    return {
        **score(task.head, found, sentences),
        "tokens_per_second": tokens_read(corpus.all_rows) / seconds,
        "sentences": len(sentences),
        "schema": settings.schema,
    }


def _require_labels(task: ExtractionTask, sentences: Sequence[Sentence]) -> None:
    unknown = sorted(labels_of(sentences) - task.head.labels - NO_RELATION)
    if unknown:
        raise UserError(
            f"The schema {task.settings.schema} hasn't got the labels {', '.join(unknown[:8])}. Its labels: "
            f"{', '.join(sorted(task.head.labels - NO_RELATION))}."
        )
