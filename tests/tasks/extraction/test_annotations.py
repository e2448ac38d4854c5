"""Rows of corpora, and the figures that their scorers give, by hand."""

import json

import pytest

from gpt_tasks.errors import UserError
from gpt_tasks.tasks.extraction.annotations import Link, Sentence, Span, bio_spans, bio_tags, read_annotated
from gpt_tasks.tasks.extraction.corpus import layers_of, links_of
from gpt_tasks.tasks.extraction.evaluation import (
    Prediction,
    score_entities,
    score_events,
    score_given_pairs,
    score_relations,
)

PER, LOC = Span(0, 2, "PER", "entity"), Span(3, 4, "LOC", "entity")
IN = Link(PER, LOC, "in")
TOKENS = ("Ada", "Lovelace", "in", "London")


def entity(start, end, label):
    return Span(start, end, label, "entity")


def write(path, *rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


class TestReading:
    def test_entities_and_relations(self, tmp_path):
        row = {
            "tokens": TOKENS,
            "tags": ["B-PER", "I-PER", "O", "B-LOC"],
            "relations": [{"head": [0, 2], "tail": [3, 4], "relation": "in"}],
        }
        (sentence,) = read_annotated(write(tmp_path / "a.jsonl", row))
        assert sentence == Sentence(TOKENS, (PER, LOC), (IN,), given=False)
        assert layers_of([sentence]) == {"entity": ["LOC", "PER"]}
        assert links_of([sentence]).labels == ("none", "in")

    def test_a_given_pair(self, tmp_path):
        row = {"tokens": TOKENS, "head": [0, 2], "tail": [3, 4], "relation": "Message-Topic(e2,e1)"}
        other = {**row, "relation": "Other"}
        sentences = read_annotated(write(tmp_path / "a.jsonl", row, other))
        assert sentences[0].given
        links = links_of(sentences)
        assert (links.labels, links.both_ways) == (("Other", "Message-Topic(e2,e1)"), False)

    def test_events(self, tmp_path):
        row = {
            "tokens": TOKENS,
            "triggers": [{"start": 2, "end": 3, "type": "Move"}],
            "arguments": [
                {"trigger": 0, "start": 0, "end": 2, "role": "Who"},
                {"trigger": 0, "start": 0, "end": 1, "role": "Who.First"},
            ],
        }
        (sentence,) = read_annotated(write(tmp_path / "a.jsonl", row))
        assert layers_of([sentence]) == {"trigger": ["Move"], "argument": ["Who"], "part": ["Who.First"]}
        assert [link.label for link in sentence.links] == ["Who", "Who.First"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "no rows"),
            ("nonsense\n", "line 1"),
            ("[1]\n", "line 1"),
            ('{"tags": ["O"]}\n', "'tokens' is missing"),
            ('{"tokens": [], "tags": []}\n', "at least one"),
            ('{"tokens": ["a", "b"], "tags": ["O"]}\n', "2 tokens and 1 tags"),
            ('{"tokens": ["a"], "head": [0, 2], "tail": [0, 1], "relation": "x"}\n', "not inside"),
            ('{"tokens": ["a"], "triggers": [{"start": 0, "end": 1}]}\n', "'type' is missing"),
            (
                '{"tokens": ["a"], "triggers": [], "arguments": [{"trigger": 0, "start": 0, "end": 1, "role": "x"}]}\n',
                "line 1",
            ),
            ("[" * 100_000, "line 1"),
            (
                '{"tokens": ["a"], "tags": ["O"]}\n{"tokens": ["a"], "head": [0, 1], "tail": [0, 1], "relation": "x"}',
                "mixes",
            ),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, tmp_path, content, message):
        path = tmp_path / "a.jsonl"
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            read_annotated(path)

    def test_no_such_file_and_not_utf8(self, tmp_path):
        with pytest.raises(UserError, match="can't be read"):
            read_annotated(tmp_path / "none.jsonl")
        (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe")
        with pytest.raises(UserError, match="UTF-8"):
            read_annotated(tmp_path / "a.jsonl")

    def test_bio(self):
        tags = ["B-A", "I-A", "I-B", "O", "I-A", "B-B", "B-B"]
        assert bio_spans(tags) == [(0, 2, "A"), (5, 6, "B"), (6, 7, "B")]
        spans = [Span(0, 3, "A", "x"), Span(2, 4, "B", "x"), Span(4, 5, "B", "x")]
        assert bio_tags(spans, 6) == ["B-A", "I-A", "I-A", "O", "B-B", "O"]


class TestScores:
    def test_entities(self):
        wanted = [Sentence(TOKENS, (PER, LOC), (), False), Sentence(TOKENS, (LOC,), (), False)]
        found = [Prediction([PER, entity(3, 4, "PER")], []), Prediction([LOC, entity(0, 1, "LOC")], [])]
        figures = score_entities(found, wanted)
        assert (figures["precision"], figures["recall"]) == (2 / 4, 2 / 3)
        assert figures["f1"] == pytest.approx(2 * 2 / (4 + 3))
        assert figures["per_type"]["LOC"]["precision"] == 1 / 2
        assert figures["macro_f1"] == pytest.approx((2 / 4 + 2 / 3) / 2)

    def test_a_relation_needs_both_entities(self):
        wanted = [Sentence(TOKENS, (PER, LOC), (IN,), False)]
        assert score_relations([Prediction([PER, LOC], [IN])], wanted)["end_to_end_f1"] == 1
        shorter = entity(0, 1, "PER")
        assert score_relations([Prediction([shorter, LOC], [Link(shorter, LOC, "in")])], wanted)["end_to_end_f1"] == 0
        assert score_relations([Prediction([PER, LOC], [Link(LOC, PER, "in")])], wanted)["end_to_end_f1"] == 0
        assert score_relations([Prediction([PER, LOC], [Link(PER, LOC, "of")])], wanted)["end_to_end_f1"] == 0

    def test_the_macro_mean_over_relations_counts_directions(self):
        wanted = ["A(e1,e2)", "A(e2,e1)", "B(e1,e2)", "Other", "Other"]
        found = ["A(e1,e2)", "A(e1,e2)", "Other", "B(e1,e2)", "Other"]
        figures = score_given_pairs(found, wanted)
        # A: 1 right of 2 found and 2 wanted; B: 0 of 1 and 1.
        assert figures["macro_f1"] == pytest.approx((0.5 + 0) / 2)
        assert figures["f1"] == pytest.approx(2 * 1 / (3 + 3))

    def test_events(self):
        trigger, argument = Span(2, 3, "Move", "trigger"), Span(0, 2, "Who", "argument")
        wanted = [Sentence(TOKENS, (trigger, argument), (Link(trigger, argument, "Who"),), False)]
        other_type = Span(2, 3, "Stay", "trigger")
        figures = score_events([Prediction([other_type, argument], [Link(other_type, argument, "Who")])], wanted)
        assert (figures["trigger_identification_f1"], figures["trigger_f1"], figures["argument_f1"]) == (1, 0, 0)
        figures = score_events([Prediction([trigger, argument], [Link(trigger, argument, "Where")])], wanted)
        assert (figures["trigger_f1"], figures["argument_identification_f1"], figures["argument_f1"]) == (1, 1, 0)
