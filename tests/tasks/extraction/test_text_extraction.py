"""Texts of people on the real backbone: places, scripts, lengths, and what the shipped heads find."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.backbone.encoder_interface import feature_layers
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.analysis import Analysis, analyse
from gpt_tasks.tasks.classifiers import Classifiers
from gpt_tasks.tasks.extraction.extraction_task import (
    SCHEMAS,
    SHIPPED,
    ExtractionSettings,
    ExtractionTask,
    available_schemas,
    load_extraction,
    write_extraction,
)
from gpt_tasks.tasks.extraction.extractors import Extractors
from gpt_tasks.tasks.extraction.formats import as_conll, as_csv, as_record
from gpt_tasks.tasks.extraction.head import ExtractionHead, LinkLabels
from gpt_tasks.tasks.extraction.text_extraction import (
    CHUNK_WORDS,
    Extracted,
    TextEvent,
    TextExtractor,
    TextLink,
    TextSpan,
)
from gpt_tasks.tasks.extraction.words import find_words
from gpt_tasks.tasks.text_files import MOST_CHARACTERS
from tests.tasks.extraction.test_words import TEXTS

NEWS = {
    "Tim Cook, the chief executive of Apple, met Olaf Scholz in Berlin on Monday.": {
        ("Tim Cook", "PER"),
        ("Apple", "ORG"),
        ("Olaf Scholz", "PER"),
        ("Berlin", "LOC"),
    },
    "The German team beat Brazil in São Paulo.": {("German", "MISC"), ("Brazil", "LOC"), ("São Paulo", "LOC")},
}


def random_task(hidden, depth, split_hyphens=False, seed=0):
    """A head of random weights finds spans everywhere, and links many of them."""
    random = np.random.default_rng(seed)
    layers = {"entity": ["A", "B"], "trigger": ["T"], "argument": ["R"]}
    links = LinkLabels(("entity", "trigger"), ("entity", "argument"), ("none", "x", "y"), both_ways=True)
    size, width, inner = 6, 8, 5
    shapes = {
        "center": (depth, hidden),
        "project.weight": (width, depth * hidden),
        "project.bias": (width,),
        **{f"lstm.weight_ih_l0{way}": (4 * size, width) for way in ("", "_reverse")},
        **{f"lstm.weight_hh_l0{way}": (4 * size, size) for way in ("", "_reverse")},
        **{f"lstm.bias_l0{way}": (4 * size,) for way in ("", "_reverse")},
        **{f"layers.{name}.weight": (1 + 2 * len(labels), 2 * size) for name, labels in layers.items()},
        **{f"layers.{name}.bias": (1 + 2 * len(labels),) for name, labels in layers.items()},
        **{f"links.{part}.weight": (inner, 2 * size) for part in ("head", "tail", "between")},
        **{f"links.{part}_kind.weight": (4, inner) for part in ("head", "tail")},
        "links.head.bias": (inner,),
        "links.distance.weight": (16, inner),
        "links.out.weight": (3, inner),
        "links.out.bias": (3,),
    }
    tensors = {name: random.normal(0, 1, shape) for name, shape in shapes.items()}
    tensors["deviation"] = np.ones((depth, hidden))
    settings = ExtractionSettings(
        task="events",
        schema="random",
        layers=layers,
        links={
            "heads": ["entity", "trigger"],
            "tails": ["entity", "argument"],
            "labels": ["none", "x", "y"],
            "both_ways": True,
        },
        split_hyphens=split_hyphens,
        method="head",
        attention="causal",
        reading="once",
        backbone={},
    )
    return ExtractionTask(settings, ExtractionHead(layers, links, tensors), None)


@pytest.fixture(scope="module")
def tiny(tiny_artifact):
    """An extractor on a tiny model whose longest row has few tokens, so that sentences fall into rows."""
    artifact, _ = tiny_artifact("llama")
    return TextExtractor(EncoderEngine(artifact, "fp32"), artifact, artifact.load_tokenizer()), artifact


@pytest.fixture(scope="module")
def tiny_tasks(tiny):
    _, artifact = tiny
    hidden, depth = artifact.config.hidden_size, len(feature_layers(artifact.config))
    return [random_task(hidden, depth), random_task(hidden, depth, split_hyphens=True, seed=1)]


@pytest.fixture(scope="module")
def extractors():
    return Extractors()


def all_spans(found):
    links = [link for event in found.events for link in event.arguments] + found.relations
    return [
        *found.entities,
        *(event.trigger for event in found.events),
        *(span for link in links for span in (link.head, link.tail)),
    ]


class TestPlaces:
    @settings(max_examples=80, deadline=None)
    @given(TEXTS.filter(lambda text: text.strip()))
    def test_a_span_is_whole_words_of_the_text(self, tiny, tiny_tasks, text):
        extractor, _ = tiny
        for found, task in zip(extractor.extract(text, tiny_tasks), tiny_tasks, strict=True):
            words = find_words(text, task.settings.split_hyphens) + find_words(text)
            begins, ends = {word.start for word in words}, {word.end for word in words}
            for span in all_spans(found):
                assert text[span.start : span.end] == span.text
                assert span.start in begins and span.end in ends
                assert 0 < span.confidence <= 1

    @settings(max_examples=30, deadline=None)
    @given(st.text("ab -.\n", min_size=1, max_size=2000).filter(str.strip))
    def test_long_sentences_are_read_to_their_end(self, tiny, tiny_tasks, text):
        extractor, _ = tiny
        parts = list(extractor.parts(text, tiny_tasks))
        assert parts[-1].words_done == parts[-1].words == len(find_words(text))

    def test_tasks_together_find_what_each_finds_alone(self, tiny, tiny_tasks):
        extractor, _ = tiny
        text = "The all-rounder hit a half-century. Nobody was well-prepared, hello the end!" * 3
        together = extractor.extract(text, tiny_tasks)
        assert together == [extractor.extract(text, [task])[0] for task in tiny_tasks]
        assert extractor.passes(tiny_tasks) == 1

    def test_a_written_head_is_the_head(self, tiny, tiny_tasks, tmp_path):
        extractor, artifact = tiny
        task = tiny_tasks[0]
        named = replace(task.settings, backbone={"name": "tiny", "fingerprint": artifact.fingerprint})
        write_extraction(tmp_path, named, task.head)
        loaded = load_extraction(tmp_path, artifact)
        text = "hello the end of all things"
        (one,), (other,) = extractor.extract(text, [task]), extractor.extract(text, [loaded])
        assert [(s.start, s.end, s.label) for s in all_spans(one)] == [
            (s.start, s.end, s.label) for s in all_spans(other)
        ]
        write_extraction(tmp_path, replace(named, backbone={"name": "x", "fingerprint": "other"}), task.head)
        with pytest.raises(UserError, match="another backbone"):
            load_extraction(tmp_path, artifact)
        write_extraction(tmp_path, replace(named, attention="full"), task.head)
        with pytest.raises(UserError, match="full attention"):
            load_extraction(tmp_path, artifact)
        (tmp_path / "head.safetensors").write_bytes(b"nonsense")
        with pytest.raises(UserError, match="damaged"):
            load_extraction(tmp_path, artifact)


class TestShipped:
    def test_all_schemas_are_there(self, default_artifact):
        assert available_schemas() == {task: list(names) for task, names in SCHEMAS.items()}
        for schemas in SCHEMAS.values():
            for name in schemas:
                load_extraction(SHIPPED / name, default_artifact)
                assert all(path.stat().st_size < 10_000_000 for path in (SHIPPED / name).iterdir())

    @pytest.mark.parametrize("text", NEWS)
    def test_entities_in_news(self, default_backbone, extractors, text):
        task = extractors.get("news", default_backbone)
        (found,) = extractors.extractor(default_backbone).extract(text, [task])
        assert {(span.text, span.label) for span in found.entities} == NEWS[text]

    def test_relations_have_their_direction(self, default_backbone, extractors):
        task = extractors.get("conll04", default_backbone)
        text = "John Wilkes Booth shot Abraham Lincoln in Washington."
        (found,) = extractors.extractor(default_backbone).extract(text, [task])
        relations = {(link.head.text, link.label, link.tail.text) for link in found.relations}
        assert ("John Wilkes Booth", "Kill", "Abraham Lincoln") in relations
        assert ("Abraham Lincoln", "Kill", "John Wilkes Booth") not in relations

    def test_a_relation_of_things(self, default_backbone, extractors):
        task = extractors.get("semeval", default_backbone)
        (found,) = extractors.extractor(default_backbone).extract("The burst pipe caused a flood.", [task])
        assert [(r.head.text, r.label, r.tail.text) for r in found.relations] == [("pipe", "Cause-Effect", "flood")]

    def test_an_event_with_its_arguments(self, default_backbone, extractors):
        task = extractors.get("phee", default_backbone)
        text = "A 45-year-old woman developed severe tremor after two weeks of treatment with lithium for depression."
        (found,) = extractors.extractor(default_backbone).extract(text, [task])
        (event,) = found.events
        assert event.trigger.label == "Adverse_event"
        roles = {(link.label, link.tail.text) for link in event.arguments}
        assert ("Treatment.Drug", "lithium") in roles
        assert any(role == "Effect" and "tremor" in text for role, text in roles)

    def test_everything_at_once_is_what_each_finds(self, default_backbone, extractors):
        text = "Shares of Ford fell in New York after Jim Farley warned of slow sales."
        *_, found = analyse(text, default_backbone, Classifiers(), extractors)
        assert isinstance(found, Analysis)
        assert found.classified["news_topic"].label == "Business"
        assert found.passes == 2 + len(found.classified)  # events in stories are read in context
        task = extractors.get("news", default_backbone)
        assert found.extracted["entities"] == extractors.extractor(default_backbone).extract(text, [task])[0]

    def test_many_visitors_at_once(self, default_backbone, extractors):
        task, extractor = extractors.get("news", default_backbone), extractors.extractor(default_backbone)
        texts = list(NEWS) * 10
        with ThreadPoolExecutor(20) as pool:
            results = list(pool.map(lambda text: extractor.extract(text, [task])[0], texts))
        for text, found in zip(texts, results, strict=True):
            assert {(span.text, span.label) for span in found.entities} == NEWS[text]

    @pytest.mark.parametrize(
        "text",
        [
            "x" * 5000,
            "?!... -- ()",
            "😀👩🏽\u200d🚀",
            "ראש הממשלה נפגש עם הנשיא בירושלים",
            "Tim\u200dCook \u200b at\u200cApple",
            "<p>Tim <b>Cook</b> of Apple &amp; Co.</p>",
            "nothing to see here",
            "e\u0301" * 300,
            "\u0000\x01 a \ud800 b",
        ],
    )
    def test_texts_of_any_kind(self, default_backbone, extractors, text):
        tasks = [extractors.get(name, default_backbone) for name in ("news", "conll04", "phee")]
        for found in extractors.extractor(default_backbone).extract(text, tasks):
            assert all(text[span.start : span.end] == span.text for span in all_spans(found))

    def test_an_entity_in_a_long_text_has_its_place(self, default_backbone, extractors):
        filler = "The weather was dull and nothing of note happened on that day. "
        text = filler * 60 + "Tim Cook met Olaf Scholz in Berlin. " + filler * 60
        task = extractors.get("news", default_backbone)
        (found,) = extractors.extractor(default_backbone).extract(text, [task])
        places = {span.text: span.start for span in found.entities if span.confidence > 0.5}
        assert places == {name: text.index(name) for name in ("Tim Cook", "Olaf Scholz", "Berlin")}

    def test_a_sentence_without_end_is_not_cut_within_a_name(self, default_backbone, extractors):
        before = "so they went on and on " * (CHUNK_WORDS // 6)  # the name would lie on both sides of the cut
        text = before[: before.rindex("on")] + "Olaf Scholz met them there " + "so they went on and on " * 100
        assert text.split().index("Scholz") == CHUNK_WORDS
        task = extractors.get("news", default_backbone)
        (found,) = extractors.extractor(default_backbone).extract(text, [task])
        assert "Olaf Scholz" in [span.text for span in found.entities]

    @pytest.mark.parametrize(
        ("text", "message"), [("", "no text"), (" \n", "no text"), ("a" * (MOST_CHARACTERS + 1), "at most")]
    )
    def test_no_text_or_too_much(self, default_backbone, extractors, text, message):
        task = extractors.get("news", default_backbone)
        with pytest.raises(UserError, match=message):
            extractors.extractor(default_backbone).extract(text, [task])

    def test_unknown_schema(self, default_backbone, extractors):
        with pytest.raises(UserError, match="there are: news, social"):
            extractors.get("nonsense", default_backbone)


class TestFormats:
    TEXT = "Tim Cook met Olaf Scholz.\n\nHe left Berlin."

    @pytest.fixture
    def found(self, default_backbone, extractors):
        task = extractors.get("news", default_backbone)
        return extractors.extractor(default_backbone).extract(self.TEXT, [task])[0]

    def test_json(self, found):
        record = json.loads(json.dumps(as_record(found)))
        assert record["entities"][0] | {"confidence": 0} == {
            "start": 0,
            "end": 8,
            "text": "Tim Cook",
            "label": "PER",
            "confidence": 0,
        }

    def test_csv(self, found):
        lines = as_csv(found).splitlines()
        assert lines[0].startswith("kind,label,start,end,text")
        assert lines[1].startswith("entity,PER,0,8,Tim Cook,,,,,")

    def test_conll(self, found):
        lines = as_conll(self.TEXT, found).split("\n")
        assert lines[:3] == ["Tim\tB-PER", "Cook\tI-PER", "met\tO"]
        assert lines[6:9] == ["", "He\tO", "left\tO"]
        assert lines[9] == "Berlin\tB-LOC"

    def test_conll_has_a_column_for_each_event_of_a_sentence(self):
        text = "Bob sold Ann a car. It rained."
        sold, rained = (TextSpan(*(text.index(w), text.index(w) + len(w), w, "EVENT", 1.0)) for w in ("sold", "rained"))
        seller, goods = TextSpan(0, 3, "Bob", "", 1.0), TextSpan(13, 18, "a car", "", 1.0)
        kind = TextSpan(15, 18, "car", "", 1.0)  # within the goods: there is one place only
        links = [TextLink(sold, seller, "Seller", 1.0), TextLink(sold, goods, "Goods", 1.0)]
        links.append(TextLink(sold, kind, "Goods.Kind", 1.0))
        found = Extracted("events", "own", events=[TextEvent(sold, links), TextEvent(rained, [])])
        assert as_conll(text, found).split("\n") == [
            "Bob\tO\tB-Seller",
            "sold\tB-EVENT\tB-TRIGGER",
            "Ann\tO\tO",
            "a\tO\tB-Goods",
            "car\tO\tI-Goods",
            ".\tO\tO",
            "",
            "It\tO\tO",
            "rained\tB-EVENT\tB-TRIGGER",
            ".\tO\tO",
            "",
        ]

    def test_conll_has_a_column_for_each_head_of_a_relation(self):
        text = "Ann lives in Rome"
        ann, rome = TextSpan(0, 3, "Ann", "PER", 1.0), TextSpan(13, 17, "Rome", "LOC", 1.0)
        found = Extracted("relations", "own", [ann, rome], [TextLink(ann, rome, "Live_In", 1.0)])
        assert as_conll(text, found) == "Ann\tB-PER\tB-HEAD\nlives\tO\tO\nin\tO\tO\nRome\tB-LOC\tB-Live_In\n"

    def test_the_threshold_takes_away_what_is_less_sure(self, found):
        assert found.above(0) == found
        assert found.above(1.01).entities == []
        least = min(span.confidence for span in found.entities)
        assert len(found.above(least).entities) == len(found.entities)
