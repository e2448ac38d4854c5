"""The head in numpy against PyTorch, its decoding against all sequences, its merging of rows."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import nn

from gpt_tasks.tasks.extraction.annotations import ENTITY, Sentence, Span
from gpt_tasks.tasks.extraction.corpus import touching_labels
from gpt_tasks.tasks.extraction.finding import find, relate
from gpt_tasks.tasks.extraction.head import (
    DISTANCES,
    ExtractionHead,
    LinkLabels,
    best_tags,
    distance_kind,
    legal_transitions,
    tag_names,
)
from gpt_tasks.tasks.extraction.reading import Row
from gpt_tasks.training.extraction_network import ExtractionNetwork

LAYERS = {"entity": ["LOC", "PER"], "part": ["X"]}
LINKS = LinkLabels(heads=("entity",), tails=("entity", "part"), labels=("none", "in", "of"), both_ways=True)
DEPTH, HIDDEN = 2, 12


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = ExtractionNetwork(torch.randn(DEPTH, HIDDEN), torch.rand(DEPTH, HIDDEN) + 0.5, LAYERS, LINKS).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3)
    return made


@pytest.fixture(scope="module")
def head(network):
    return ExtractionHead(LAYERS, LINKS, network.tensors())


@pytest.fixture
def features():
    random = np.random.default_rng(0)
    return [random.normal(0, 3, (words, DEPTH, HIDDEN)).astype(np.float32) for words in (5, 1, 9)]


def torch_contextual(network, features):
    padded = nn.utils.rnn.pad_sequence([torch.tensor(f) for f in features], batch_first=True)
    with torch.no_grad():
        return network(padded, torch.tensor([len(f) for f in features]))


class TestAgainstTorch:
    def test_contextual(self, network, head, features):
        wanted = torch_contextual(network, features)
        lengths = [len(f) for f in features]
        padded = np.full((3, 9, DEPTH, HIDDEN), 1e6, np.float32)  # what lies behind a sentence must not matter
        for row, feature in enumerate(features):
            padded[row, : len(feature)] = feature
        found = head.contextual(padded, lengths)
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(found[row, :length], wanted[row, :length], atol=2e-5)

    def test_tags(self, network, head, features):
        y = torch_contextual(network, features)
        found = head.tag_scores(y.numpy())
        for name, layer in network.layers.items():
            np.testing.assert_allclose(found[name], layer(y).log_softmax(-1).detach(), atol=2e-5)

    def test_links(self, network, head, features):
        y = torch_contextual(network, features)
        loc, per, part = Span(0, 2, "LOC", ENTITY), Span(3, 4, "PER", ENTITY), Span(7, 9, "X", "part")
        pairs = [(loc, per), (per, loc), (loc, part), (part, loc)]
        wanted = network.links(y, [2] * 4, pairs).softmax(-1).detach()
        np.testing.assert_allclose(head.link_probabilities(y[2].numpy(), pairs), wanted, atol=2e-5)

    def test_neighbours_have_nothing_between_them(self, network, head, features):
        y = torch_contextual(network, features)
        pair = (Span(0, 2, "LOC", ENTITY), Span(2, 3, "PER", ENTITY))
        wanted = network.links(y, [0], [pair]).softmax(-1).detach()
        np.testing.assert_allclose(head.link_probabilities(y[0, :5].numpy(), [pair]), wanted, atol=2e-5)


class TestDecoding:
    @pytest.mark.parametrize("touching", [None, [], ["B"]])
    @pytest.mark.parametrize("seed", range(5))
    def test_viterbi_finds_the_best_legal_sequence(self, seed, touching):
        labels = ["A", "B"]
        tags, transitions = tag_names(labels), legal_transitions(labels, touching)
        scores = np.random.default_rng(seed).normal(0, 2, (4, len(tags)))

        def legal(path):
            names = ["O", *(tags[tag] for tag in path)]
            apart = labels if touching is None else touching
            follows = [(before[1:] == tag[1:], tag) for before, tag in pairwise(names)]
            return all(same or not tag.startswith("I") for same, tag in follows) and not any(
                same and tag.startswith("B") and tag[2:] not in apart for same, tag in follows
            )

        paths = [path for path in product(range(len(tags)), repeat=4) if legal(path)]
        wanted = max(paths, key=lambda path: scores[range(4), path].sum())
        assert tuple(best_tags(scores, transitions)) == wanted

    def test_an_inside_tag_never_begins_a_span(self):
        labels = ["A"]
        scores = np.log(np.array([[0.05, 0.05, 0.9], [0.05, 0.05, 0.9]]))  # O, B-A, I-A
        assert best_tags(scores, legal_transitions(labels)) == [1, 2]

    def test_spans_that_never_touch_are_one(self):
        """Both words could begin a span."""
        scores = np.log(np.array([[0.1, 0.8, 0.1], [0.1, 0.5, 0.4], [0.1, 0.1, 0.8]]))  # O, B-A, I-A
        assert best_tags(scores, legal_transitions(["A"])) == [1, 1, 2]
        assert best_tags(scores, legal_transitions(["A"], touching=[])) == [1, 2, 2]

    def test_confidence_is_the_geometric_mean(self, head):
        scores = {
            "entity": np.log([[0.1, 0.6, 0.1, 0.1, 0.1], [0.1, 0.1, 0.6, 0.1, 0.1]]),
            "part": np.log([[0.8, 0.1, 0.1]] * 2),
        }
        (found,) = head.spans(scores)
        assert (found.span, round(found.confidence, 6)) == (Span(0, 2, "LOC", "entity"), 0.6)

    def test_distances(self):
        kinds = {distance_kind((0, 1), (1 + gap, 2 + gap)) for gap in range(40)}
        assert kinds == set(range(DISTANCES // 2))
        assert distance_kind((5, 6), (0, 1)) == distance_kind((0, 1), (5, 6)) + DISTANCES // 2


class TestPairs:
    def test_both_ways_or_in_the_texts_order(self):
        one, other = Span(0, 1, "LOC", ENTITY), Span(2, 3, "PER", ENTITY)
        assert LINKS.pairs([one, other]) == [(one, other), (other, one)]
        ordered = LinkLabels(("entity",), ("entity",), ("none", "in"), both_ways=False)
        assert ordered.pairs([other, one]) == [(one, other)]

    def test_only_the_layers_that_may_be_linked(self):
        part = Span(0, 1, "X", "part")
        assert LINKS.pairs([part, Span(1, 2, "X", "part")]) == []


class TestRowsOfOneSentence:
    """Two rows that overlap give what one row would, where both have seen enough."""

    @staticmethod
    def rows(*places):
        return [Row((0,), first, tuple(range(words))) for first, words in places]

    def test_spans_are_not_doubled_and_keep_their_place(self, head, features):
        whole = features[2]
        rows = self.rows((0, 6), (3, 6))
        (found,) = find(head, [rows], [whole[:6], whole[3:9]])
        assert all(0 <= item.span.start < item.span.end <= 9 for item in found.spans)
        for layer in LAYERS:
            ends = [(s.span.start, s.span.end) for s in found.spans if s.span.layer == layer]
            assert all(one[1] <= other[0] for one, other in pairwise(ends))
        assert {span for link in found.links for span in (link.head, link.tail)} <= {s.span for s in found.spans}

    def test_a_given_pair_is_read_where_both_are(self, head, features):
        whole = features[2]
        pair = (Span(4, 5, "LOC", ENTITY), Span(7, 8, "PER", ENTITY))
        (found,) = relate(head, [self.rows((0, 6), (3, 6))], [whole[:6], whole[3:9]], [pair])
        (alone,) = relate(head, [self.rows((3, 6))], [whole[3:9]], [pair])
        assert (found.label, found.confidence) == (alone.label, pytest.approx(alone.confidence))


def test_a_head_whose_tensors_do_not_fit_is_refused(network):
    tensors = network.tensors()
    with pytest.raises(ValueError, match=r"layers\.entity\.weight"):
        ExtractionHead({"entity": ["LOC"]}, None, tensors)
    with pytest.raises(KeyError, match="deviation"):
        ExtractionHead(LAYERS, LINKS, {name: value for name, value in tensors.items() if name != "deviation"})


def test_labels_whose_spans_touch_are_counted():
    apart = Sentence(("a", "b", "c"), (Span(0, 1, "PER", ENTITY), Span(2, 3, "PER", ENTITY)), (), False)
    touching = Sentence(("a", "b", "c"), (Span(0, 1, "LOC", ENTITY), Span(1, 3, "LOC", ENTITY)), (), False)
    mistake = Sentence(("a", "b"), (Span(0, 1, "PER", ENTITY), Span(1, 2, "PER", ENTITY)), (), False)
    assert touching_labels([apart, touching]) == {ENTITY: ["LOC"]}
    assert touching_labels([apart, mistake] + [apart] * 200) == {ENTITY: []}
    assert touching_labels([apart, mistake]) == {ENTITY: ["PER"]}
