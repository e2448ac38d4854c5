"""What finds spans and links in the backbone's hidden states, in numpy.

    x = [(h_l - center_l) / deviation_l ...]    some layers, one beside the other
    y = BiLSTM(gelu(P x + p))                   what the words to the right say: the backbone has seen the left
    tags: softmax(T y + t) a layer of spans, the best legal BIO sequence by Viterbi
    link: softmax(O relu(H ȳ_head + T ȳ_tail + B max y between + kinds + distance) + o), ȳ a mean over the span

The backbone stays as it is, so that one reading of a text serves every head (`training.extraction` trains them).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpt_tasks.tasks.extraction.annotations import ENTITY, TRIGGER, Link, Span, bio_spans
from gpt_tasks.tasks.heads import softmax

FARTHEST = 8.0
"""In standard deviations: single numbers that the backbone makes far larger are cut to this."""
_BETWEEN = (0, 1, 2, 4, 7, 12, 20)
DISTANCES = 2 * (len(_BETWEEN) + 1)
"""How many kinds of distance `distance_kind` tells apart."""


def tag_names(labels: Sequence[str]) -> list[str]:
    """O, then B- and I- of each."""
    return ["O", *(f"{part}-{label}" for label in labels for part in "BI")]


def legal_transitions(labels: Sequence[str], touching: Collection[str] | None = None) -> np.ndarray:
    """0 where a tag may follow another, -inf where not: [1 + tags, tags], the first row for a sentence's beginning.

    Args:
        touching: the labels of which two spans may have no word between them; None: all. Where a corpus has none, a
            word that could begin or continue a span ("the data breach") would otherwise cut it in two.
    """
    tags = tag_names(labels)

    def allowed(old: str | None, tag: str) -> bool:
        same = old is not None and old[1:] == tag[1:]
        if tag.startswith("I-"):
            return same
        return tag == "O" or not same or touching is None or tag[2:] in touching

    return np.where([[allowed(old, tag) for tag in tags] for old in (None, *tags)], 0.0, -np.inf)


def best_tags(scores: np.ndarray, transitions: np.ndarray) -> list[int]:
    """The sequence with the largest sum (Viterbi).

    Args:
        scores: [words, tags], log probabilities
        transitions: see `legal_transitions`
    """
    total = scores[0] + transitions[0]
    origins = []
    for score in scores[1:]:
        paths = total[:, None] + transitions[1:]  # [from, to]
        origins.append(paths.argmax(axis=0))
        total = paths.max(axis=0) + score
    path = [int(total.argmax())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return path[::-1]


def distance_kind(head: tuple[int, int], tail: tuple[int, int]) -> int:
    """How many words lie between two spans, roughly, and which one comes first: 0 ... DISTANCES - 1"""
    first, second = sorted((head, tail))
    between = max(0, second[0] - first[1])
    kind = sum(between > limit for limit in _BETWEEN)
    return kind + (DISTANCES // 2 if tail < head else 0)


@dataclass(frozen=True)
class LinkLabels:
    """Which spans may be linked, and how."""

    heads: tuple[str, ...]
    """layers"""
    tails: tuple[str, ...]
    labels: tuple[str, ...]
    """the first one: not linked"""
    both_ways: bool
    """False: of a pair, the head is the one that comes first in the text, and the label tells the direction"""

    def pairs(self, spans: Sequence[Span]) -> list[tuple[Span, Span]]:
        """All that may be linked: head and tail."""
        return [
            (head, tail)
            for head in spans
            if head.layer in self.heads
            for tail in spans
            if tail.layer in self.tails and tail != head and (self.both_ways or head < tail)
        ]


@dataclass(frozen=True)
class FoundSpan:
    span: Span
    confidence: float
    """0 to 1: the geometric mean of its words' probabilities"""


@dataclass(frozen=True)
class FoundLink:
    head: Span
    tail: Span
    label: str
    confidence: float
    """0 to 1: its probability among the labels"""

    @property
    def link(self) -> Link:
        return Link(self.head, self.tail, self.label)


class ExtractionHead:
    """
    Args:
        layers: name -> labels of its spans
        links: None: spans alone
        tensors: as `training.extraction` names them
        touching: of each layer, the labels whose spans may touch, see `legal_transitions`; None: all

    Raises:
        KeyError: a tensor is missing.
        ValueError: a tensor's shape doesn't fit the others.
    """

    def __init__(
        self,
        layers: Mapping[str, Sequence[str]],
        links: LinkLabels | None,
        tensors: Mapping[str, np.ndarray],
        touching: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.layers = {name: tuple(labels) for name, labels in layers.items()}
        self.links = links
        self.tensors = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
        self._tags = {name: tag_names(labels) for name, labels in layers.items()}
        self._transitions = {
            name: legal_transitions(labels, None if touching is None else touching[name])
            for name, labels in layers.items()
        }
        self.kinds = span_kinds(layers)
        self._check()

    def _check(self) -> None:
        t = self.tensors
        depth, hidden = t["center"].shape
        width = t["project.weight"].shape[0]
        size = t["lstm.weight_hh_l0"].shape[1]
        wanted = {
            "deviation": (depth, hidden),
            "project.weight": (width, depth * hidden),
            "project.bias": (width,),
        }
        for way in ("", "_reverse"):
            wanted[f"lstm.weight_ih_l0{way}"] = (4 * size, width)
            wanted[f"lstm.weight_hh_l0{way}"] = (4 * size, size)
            wanted[f"lstm.bias_l0{way}"] = (4 * size,)
        for name, tags in self._tags.items():
            wanted[f"layers.{name}.weight"] = (len(tags), 2 * size)
            wanted[f"layers.{name}.bias"] = (len(tags),)
        if self.links is not None:
            inner = t["links.head.weight"].shape[0]
            wanted |= {f"links.{part}.weight": (inner, 2 * size) for part in ("head", "tail", "between")}
            wanted |= {f"links.{part}_kind.weight": (len(self.kinds), inner) for part in ("head", "tail")}
            wanted |= {
                "links.head.bias": (inner,),
                "links.distance.weight": (DISTANCES, inner),
                "links.out.weight": (len(self.links.labels), inner),
                "links.out.bias": (len(self.links.labels),),
            }
        for name, shape in wanted.items():
            if t[name].shape != shape:
                raise ValueError(f"{name} is {t[name].shape}, and should be {shape}")

    @property
    def depth(self) -> int:
        """Layers of the backbone that it reads."""
        return len(self.tensors["center"])

    @property
    def hidden_size(self) -> int:
        """Of the backbone."""
        return self.tensors["center"].shape[1]

    @property
    def labels(self) -> frozenset[str]:
        """Of spans and of links."""
        links = () if self.links is None else self.links.labels
        return frozenset(links).union(*self.layers.values())

    @property
    def shown_labels(self) -> tuple[str, ...]:
        """Of what is marked in a text: entities or triggers."""
        return self.layers[TRIGGER if TRIGGER in self.layers else ENTITY]

    def contextual(self, features: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
        """Words in their sentences.

        Args:
            features: [sentences, longest, depth, hidden]; numbers without meaning where a sentence has ended
            lengths: words of each

        Returns:
            y, [sentences, longest, 2 · LSTM]
        """
        t = self.tensors
        scaled = np.clip((features - t["center"]) / t["deviation"], -FARTHEST, FARTHEST)
        x = _gelu(scaled.reshape(*scaled.shape[:2], -1) @ t["project.weight"].T + t["project.bias"])
        order = np.arange(x.shape[1])[None, :]
        length = np.asarray(lengths)[:, None]
        backward = np.where(order < length, length - 1 - order, order)  # its own inverse
        rows = np.arange(len(x))[:, None]
        left = self._lstm(x, "")
        right = self._lstm(x[rows, backward], "_reverse")[rows, backward]
        return np.concatenate([left, right], axis=2)

    def _lstm(self, x: np.ndarray, way: str) -> np.ndarray:
        """[rows, words, width] -> [rows, words, LSTM]; the gates in PyTorch's order: input, forget, cell, output"""
        t = self.tensors
        weight = t[f"lstm.weight_hh_l0{way}"].T
        given = x @ t[f"lstm.weight_ih_l0{way}"].T + t[f"lstm.bias_l0{way}"]
        size = weight.shape[0]
        hidden, cell = (np.zeros((len(x), size), np.float32) for _ in range(2))
        outputs = np.empty((*x.shape[:2], size), np.float32)
        for word in range(x.shape[1]):
            gates = given[:, word] + hidden @ weight
            entry, keep, out = (_sigmoid(gates[:, part * size : (part + 1) * size]) for part in (0, 1, 3))
            cell = keep * cell + entry * np.tanh(gates[:, 2 * size : 3 * size])
            hidden = out * np.tanh(cell)
            outputs[:, word] = hidden
        return outputs

    def tag_scores(self, contextual: np.ndarray) -> dict[str, np.ndarray]:
        """[..., 2 · LSTM] -> log probabilities [..., tags], a layer of spans"""
        t = self.tensors
        scores = {}
        for name in self.layers:
            logits = contextual @ t[f"layers.{name}.weight"].T + t[f"layers.{name}.bias"]
            shifted = logits - logits.max(axis=-1, keepdims=True)
            scores[name] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return scores

    def spans(self, scores: Mapping[str, np.ndarray]) -> list[FoundSpan]:
        """A sentence's spans, in the order of the text.

        Args:
            scores: of each layer, [words, tags]
        """
        found = []
        for layer, score in scores.items():
            path = best_tags(score, self._transitions[layer])
            chosen = score[np.arange(len(path)), path]
            for start, end, label in bio_spans([self._tags[layer][tag] for tag in path]):
                confidence = math.exp(float(chosen[start:end].mean()))
                found.append(FoundSpan(Span(start, end, label, layer), confidence))
        return sorted(found, key=lambda item: item.span)

    def link_probabilities(self, contextual: np.ndarray, pairs: Sequence[tuple[Span, Span]]) -> np.ndarray:
        """[words, 2 · LSTM] of a sentence -> [pairs, labels]"""
        t = self.tensors

        def mean(span: Span) -> np.ndarray:
            return contextual[span.start : span.end].mean(axis=0)

        def between(head: Span, tail: Span) -> np.ndarray:
            first, second = sorted((head, tail))
            words = contextual[first.end : second.start]
            return words.max(axis=0) if len(words) else np.zeros(contextual.shape[1], np.float32)

        heads, tails = (np.stack([mean(pair[side]) for pair in pairs]) for side in (0, 1))
        gap = np.stack([between(*pair) for pair in pairs])
        head_kinds, tail_kinds = ([self.kinds[pair[side].layer, pair[side].label] for pair in pairs] for side in (0, 1))
        distances = [distance_kind((a.start, a.end), (b.start, b.end)) for a, b in pairs]
        inner = (
            heads @ t["links.head.weight"].T
            + t["links.head.bias"]
            + tails @ t["links.tail.weight"].T
            + gap @ t["links.between.weight"].T
            + t["links.head_kind.weight"][head_kinds]
            + t["links.tail_kind.weight"][tail_kinds]
            + t["links.distance.weight"][distances]
        )
        return softmax(np.maximum(inner, 0) @ t["links.out.weight"].T + t["links.out.bias"])

    def related(self, contextual: np.ndarray, spans: Sequence[Span]) -> list[FoundLink]:
        """The links among a sentence's spans.

        Args:
            contextual: [words, 2 · LSTM]
        """
        pairs = self.links.pairs(spans) if self.links is not None else []
        if not pairs:
            return []
        probabilities = self.link_probabilities(contextual, pairs)
        best = probabilities.argmax(axis=1)
        return [
            FoundLink(*pair, self.links.labels[label], float(row[label]))
            for pair, label, row in zip(pairs, best, probabilities, strict=True)
            if label != 0
        ]


def span_kinds(layers: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], int]:
    """(layer, label) -> its number, counted through all layers."""
    return {kind: number for number, kind in enumerate((name, label) for name in layers for label in layers[name])}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (np.tanh(0.5 * x) + 1)  # no overflow


def _gelu(x: np.ndarray) -> np.ndarray:
    """With tanh, as in GPT-2."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
