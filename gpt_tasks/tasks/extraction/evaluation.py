"""How good extraction is: exact spans, links between exact spans, as the corpora's own scorers count."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from gpt_tasks.tasks.extraction.annotations import ENTITY, NO_RELATION, TRIGGER, Link, Sentence, Span


@dataclass(frozen=True)
class Counts:
    right: int
    found: int
    wanted: int

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.wanted if self.wanted else 0.0

    @property
    def f1(self) -> float:
        """0 where nothing is right."""
        return 2 * self.right / (self.found + self.wanted) if self.right else 0.0

    def figures(self) -> dict[str, float]:
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1, "wanted": self.wanted}


def count(found: Iterable[Hashable], wanted: Iterable[Hashable]) -> Counts:
    """Things that are the same in both, each as often as it occurs in both."""
    found, wanted = Counter(found), Counter(wanted)
    return Counts((found & wanted).total(), found.total(), wanted.total())


@dataclass(frozen=True)
class Prediction:
    """What was found in a sentence."""

    spans: Sequence[Span]
    links: Sequence[Link]


def score_entities(found: Sequence[Prediction], wanted: Sequence[Sentence]) -> dict:
    """precision, recall, f1 (micro; a span is right where its place and label are, as seqeval counts in strict BIO
    mode), macro_f1 and per_type"""
    spans = _spans(found, ENTITY), _spans(wanted, ENTITY)
    per_type = _by_label(*spans)
    return {**_micro(*spans), "macro_f1": _mean(per_type), "per_type": per_type}


def score_relations(found: Sequence[Prediction], wanted: Sequence[Sentence]) -> dict:
    """Entities and relations end to end: end_to_end_f1 counts a relation where both entities (place and label) and
    its own label are right; f1 is the entities'."""
    links = _links(found), _links(wanted)
    total = count(*links)
    return {
        "end_to_end_f1": total.f1,
        "end_to_end_precision": total.precision,
        "end_to_end_recall": total.recall,
        **score_entities(found, wanted),
        "per_relation": _by_label(*links),
    }


def score_given_pairs(found: Sequence[str], wanted: Sequence[str]) -> dict:
    """Relations of given pairs. macro_f1 is the mean over relations, both directions of one together, a wrong
    direction counted wrong, and pairs without relation no class of their own (SemEval-2010 Task 8's official
    score); f1 is the micro mean."""
    relations = [
        [(row, label) for row, label in enumerate(labels) if label not in NO_RELATION] for labels in (found, wanted)
    ]
    per_type = {}
    for relation in sorted({undirected(label) for _, label in relations[1]}):
        per_type[relation] = count(
            *([item for item in side if undirected(item[1]) == relation] for side in relations)
        ).figures()
    return {**_micro(*relations), "macro_f1": _mean(per_type), "per_type": per_type}


def score_events(found: Sequence[Prediction], wanted: Sequence[Sentence]) -> dict:
    """trigger_identification_f1 (place), trigger_f1 (place and type), argument_identification_f1 (place and the
    event's type), argument_f1 (and role), the arguments as TextEE counts them (Huang et al. 2024)."""
    triggers = _spans(found, TRIGGER), _spans(wanted, TRIGGER)
    total = count(*triggers)
    figures = {
        "trigger_f1": total.f1,
        "trigger_precision": total.precision,
        "trigger_recall": total.recall,
        "trigger_identification_f1": count(*([item[:3] for item in side] for side in triggers)).f1,
    }
    arguments = [
        {
            (row, link.head.label, link.tail.start, link.tail.end, link.label)
            for row, sentence in enumerate(side)
            for link in sentence.links
        }
        for side in (found, wanted)
    ]
    if arguments[1]:
        figures["argument_f1"] = count(*arguments).f1
        figures["argument_identification_f1"] = count(*({item[:4] for item in side} for side in arguments)).f1
        figures["per_role"] = _by_label(*arguments)
    return {**figures, "per_type": _by_label(*triggers)}


def undirected(label: str) -> str:
    """Cause-Effect(e2,e1) -> Cause-Effect"""
    return label.partition("(")[0]


def _spans(sentences: Sequence[Prediction | Sentence], layer: str) -> list[tuple[int, int, int, str]]:
    return [
        (row, span.start, span.end, span.label)
        for row, sentence in enumerate(sentences)
        for span in sentence.spans
        if span.layer == layer
    ]


def _links(sentences: Sequence[Prediction | Sentence]) -> list[tuple]:
    return [
        (row, link.head, link.tail, link.label) for row, sentence in enumerate(sentences) for link in sentence.links
    ]


def _micro(found: Iterable[Hashable], wanted: Iterable[Hashable]) -> dict[str, float]:
    total = count(found, wanted)
    return {"f1": total.f1, "precision": total.precision, "recall": total.recall}


def _by_label(found: Iterable[tuple], wanted: Iterable[tuple]) -> dict[str, dict[str, float]]:
    """The last part of each is its label."""
    found, wanted = list(found), list(wanted)
    return {
        label: count(*([item for item in side if item[-1] == label] for side in (found, wanted))).figures()
        for label in sorted({item[-1] for item in wanted})
    }


def _mean(per_type: dict[str, dict[str, float]]) -> float:
    return sum(figures["f1"] for figures in per_type.values()) / max(1, len(per_type))
