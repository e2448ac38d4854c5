"""Windows, heads, calibration, out-of-scope rule, and the shipped tasks on the real backbone."""

import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import EmpiricalCovariance

from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.backbone.json_files import read_json, write_json
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.attribution import attribute
from gpt_tasks.tasks.calibration import expected_calibration_error, fit_temperature
from gpt_tasks.tasks.classification import TextClassifier
from gpt_tasks.tasks.classifiers import Classifiers, available
from gpt_tasks.tasks.evaluation import evaluate_classifier
from gpt_tasks.tasks.heads import softmax
from gpt_tasks.tasks.out_of_scope import OutOfScopeRule, fit_out_of_scope
from gpt_tasks.tasks.text_files import MOST_CHARACTERS, LabelledText, read_text_file
from gpt_tasks.tasks.trained_task import CLASSIFICATION, SHIPPED, load_task, shipped_task
from gpt_tasks.tasks.windows import OVERLAP, WindowReader, cut

QUESTIONS = {
    "what is my balance": "balance",
    "please set an alarm for six in the morning": "alarm",
    "translate good evening into french": "translate",
    "tell me a joke about cats": "tell_joke",
    "how many calories are in an apple": "calories",
    "i need to book a flight from boston to denver": "book_flight",
    "what will the weather be like tomorrow": "weather",
    "my card was stolen on the train": "report_lost_card",
    "flip a coin for me": "flip_coin",
    "how do you spell restaurant": "spelling",
}

OPINIONS = {
    "A warm, funny and beautifully acted film that stays with you for days.": "positive",
    "The plot makes no sense, the jokes fall flat, and I wanted my two hours back.": "negative",
    "The battery died after a week and customer service never answered.": "negative",
    "Sturdy, light and cheaper than the old one: I would buy it again.": "positive",
    "Best ramen in town, and the staff could not have been kinder.": "positive",
    "We waited an hour for cold pasta, and the waiter was rude.": "negative",
    "it 's a dull , lifeless mess of a movie .": "negative",
    "a gripping and moving story , told with great care .": "positive",
}
NEWS = {
    "Striker scores twice as United beat City 3-1 in the cup final": "Sports",
    "Oil prices fall as OPEC raises output and shares of airlines climb": "Business",
    "Scientists release software that finds security holes in web browsers": "Sci/Tech",
    "UN peacekeepers withdraw after rebels and government troops clash near the capital": "World",
    "Champion swimmer withdraws from the Olympics with a shoulder injury": "Sports",
    "Bank reports record quarterly profit after merger with rival lender": "Business",
    "NASA probe sends first pictures of Saturn #39;s largest moon": "Sci/Tech",
    "Two bombs kill dozens at a market in Baghdad, police say": "World",
}


@pytest.fixture(scope="session")
def intent(default_backbone):
    return Classifiers().get("intent", default_backbone)


@pytest.fixture(scope="session")
def exact(default_backbone, intent):
    """The same on the fp32 engine."""
    engine = EncoderEngine(default_backbone.artifact, "fp32")
    return TextClassifier(engine, WindowReader.of(default_backbone.artifact, default_backbone.tokenizer), intent.task)


class TestWindows:
    @given(st.integers(0, 1000), st.integers(2, 200))
    def test_every_token_is_in_a_window_and_none_is_longer(self, length, window):
        pieces = cut(range(length), window)
        assert {token for piece in pieces for token in piece} == set(range(length))
        assert all(len(piece) <= window for piece in pieces)
        if length > window:
            assert all(len(piece) == window for piece in pieces)
            for one, other in pairwise(pieces):
                assert one[-1] - other[0] + 1 >= min(OVERLAP, window // 2)

    def test_each_begins_with_the_beginning(self, default_backbone):
        reader = WindowReader(default_backbone.tokenizer, begin=1, window=10)
        windows = reader.read("One two three four five six seven eight nine ten eleven twelve")
        assert windows.tokens == 12 and len(windows.pieces) == 2
        assert all(piece[0] == 1 for piece in windows.pieces)
        assert reader.first("One") == [1, *default_backbone.tokenizer.encode("One")]


class TestCalibration:
    def test_temperature_is_found_again(self):
        rng = np.random.default_rng(0)
        logits = rng.normal(size=(20_000, 5)) * 2
        labels = np.array([rng.choice(5, p=p) for p in softmax(logits)])
        assert fit_temperature(logits * 1.7, labels) == pytest.approx(1.7, rel=0.03)

    def test_error_by_hand(self):
        confidence = np.array([0.95, 0.95, 0.55, 0.55])
        right = np.array([True, False, True, True])
        # half of the rows: |0.95 - 0.5|, the other half: |0.55 - 1|
        assert expected_calibration_error(confidence, right) == pytest.approx(0.45)
        assert expected_calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0


class TestOutOfScope:
    def made(self):
        rng = np.random.default_rng(0)
        means = np.array([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]])
        features = np.concatenate([mean + rng.normal(size=(100, 3)) * [1, 2, 0.5] for mean in means])
        labels = np.repeat([0, 1, 2], 100)
        return features, labels, features @ np.eye(3) * 2

    def test_distance_is_mahalanobis(self):
        features, labels, logits = self.made()
        rule = fit_out_of_scope(features, labels, logits, features, labels, label=2, given_up=0.1)
        inside = labels != 2
        centered = features[inside] - np.stack([features[labels == k].mean(axis=0) for k in labels[inside]])
        reference = EmpiricalCovariance(assume_centered=True).fit(centered)
        # The rule shrinks the covariance half-way to its mean variance.
        covariance = reference.covariance_ + np.trace(reference.covariance_) / 3 * np.eye(3)
        inverse = np.linalg.inv(covariance)
        means = [features[labels == k].mean(axis=0) for k in (0, 1)]
        expected = np.sqrt(min((features[0] - mean) @ inverse @ (features[0] - mean) for mean in means))
        margin = logits[0, 2] - logits[0, :2].max()
        (c1, c2), (d1, d2) = rule.centers, rule.deviations
        assert rule.scores(logits[:1], features[:1])[0] == pytest.approx(
            (margin - c1) / d1 + (expected - c2) / d2, rel=1e-3
        )

    def test_threshold_keeps_the_accuracy_in_scope(self):
        features, labels, logits = self.made()
        rule = fit_out_of_scope(features, labels, logits, features, labels, label=2, given_up=0.1)
        outside = rule.scores(logits, features) >= rule.threshold
        right = (logits[:, :2].argmax(axis=1) == labels)[labels != 2]
        assert (right & ~outside[labels != 2]).mean() >= right.mean() - 0.1
        assert outside[labels == 2].mean() > 0.9
        restored = OutOfScopeRule.restore(rule.settings(), rule.tensors())
        np.testing.assert_array_equal(restored.scores(logits, features), rule.scores(logits, features))


class TestIntent:
    def test_says_what_is_meant(self, intent):
        found = intent.classify(list(QUESTIONS))
        assert [result.label for result in found] == list(QUESTIONS.values())
        assert all(sum(result.probabilities.values()) == pytest.approx(1) for result in found)

    @pytest.mark.parametrize("text", ["what is the capital of australia", "why is the ocean salty"])
    def test_says_that_nothing_fits(self, intent, text):
        result = intent.classify([text])[0]
        assert result.out_of_scope and result.label == "oos"

    def test_a_text_without_words_is_no_error(self, intent):
        result = intent.classify(["\U0001f600\U0001f600"])[0]
        assert result.tokens > 0 and result.scores.sum() == pytest.approx(1)

    def test_int8_decides_as_fp32(self, intent, exact):
        texts = list(QUESTIONS)
        for ours, theirs in zip(intent.classify(texts), exact.classify(texts), strict=True):
            assert ours.label == theirs.label
            assert ours.confidence == pytest.approx(theirs.confidence, abs=0.15)

    def test_a_batch_gives_what_single_texts_give(self, exact):
        texts = [*QUESTIONS, "balance " * 300]
        for together, text in zip(exact.classify(texts), texts, strict=True):
            alone = exact.classify([text])[0]
            assert alone.label == together.label
            assert alone.confidence == pytest.approx(together.confidence, abs=1e-3)

    def test_a_long_text_is_read_whole(self, intent):
        result = intent.classify(["so " * 400 + "what is my checking balance"])[0]
        assert result.windows == 3 and result.tokens > 400

    def test_a_long_text_can_be_stopped_between_its_windows(self, intent):
        class StoppedError(Exception):
            pass

        seen = []

        def stop_after_two() -> None:
            seen.append(None)
            if len(seen) == 2:
                raise StoppedError

        with pytest.raises(StoppedError):
            intent.classify(["please tell me what my balance is " * 1000], between=stop_after_two)
        assert len(seen) == 2

    def test_domains(self, intent):
        assert intent.task.domain_of("balance") == "banking"
        assert intent.task.domain_of("oos") is None

    def test_words_that_decide(self, intent):
        text = "  please tell me, what is the weather in Oslo?"
        weights = attribute(intent, text, "weather")
        assert [text[word.start : word.end] for word in weights] == text.split()
        assert text[weights[-3].start : weights[-3].end] == "weather"
        assert max(weights, key=lambda word: word.weight) == weights[-3]
        assert attribute(intent, "word " * 400, "weather") == []

    @pytest.mark.parametrize("texts", [[], [""], ["fine", " \n"], ["a" * (MOST_CHARACTERS + 1)]])
    def test_empty_or_endless_texts_are_refused(self, intent, texts):
        with pytest.raises(UserError, match=r"no text|is empty|Split it up"):
            intent.classify(texts)

    def test_evaluation(self, intent):
        rows = [LabelledText(text, label, 1) for text, label in QUESTIONS.items()]
        rows += [
            LabelledText("what is the capital of australia", "oos", 1),
            LabelledText("what is my balance", "weather", 1),
        ]
        figures = evaluate_classifier(intent, rows)
        assert figures["accuracy"] == pytest.approx(11 / 12)
        assert figures["in_scope_accuracy"] == pytest.approx(10 / 11)
        assert figures["out_of_scope_recall"] == 1
        assert figures["per_class"]["weather"] == {
            "precision": 1.0,
            "recall": 0.5,
            "f1": pytest.approx(2 / 3),
            "texts": 2,
        }
        with pytest.raises(UserError, match="'nonsense', which the task hasn't got"):
            evaluate_classifier(intent, [LabelledText("x", "nonsense", 1)])


class TestSentimentAndTopic:
    @pytest.mark.parametrize(("task", "texts"), [("sentiment", OPINIONS), ("news_topic", NEWS)])
    def test_decides_rightly_and_as_fp32_does(self, default_backbone, task, texts):
        classifier = Classifiers().get(task, default_backbone)
        reader = WindowReader.of(default_backbone.artifact, default_backbone.tokenizer)
        exact = TextClassifier(EncoderEngine(default_backbone.artifact, "fp32"), reader, classifier.task)
        found = classifier.classify(list(texts))
        assert [result.label for result in found] == list(texts.values())
        for ours, theirs in zip(found, exact.classify(list(texts)), strict=True):
            assert ours.label == theirs.label
            assert ours.confidence == pytest.approx(theirs.confidence, abs=0.15)

    @pytest.mark.skipif("GPT_TASKS_SST2" not in os.environ, reason="GPT_TASKS_SST2 must name SST-2's dev.jsonl")
    def test_int8_loses_at_most_half_a_point(self, default_backbone):
        rows = read_text_file(Path(os.environ["GPT_TASKS_SST2"]), labelled=True)
        served = Classifiers().get("sentiment", default_backbone)
        reader = WindowReader.of(default_backbone.artifact, default_backbone.tokenizer)
        exact = TextClassifier(EncoderEngine(default_backbone.artifact, "fp32"), reader, served.task)
        accuracy = [evaluate_classifier(classifier, rows)["accuracy"] for classifier in (served, exact)]
        assert accuracy[0] == pytest.approx(accuracy[1], abs=0.005)

    def test_sentiment_of_films_products_and_restaurants(self, default_backbone):
        """What it was trained on are sentences about films, without capitals."""
        rows = read_text_file(Path(__file__).with_name("opinions.jsonl"), labelled=True)
        figures = evaluate_classifier(Classifiers().get("sentiment", default_backbone), rows)
        assert figures["accuracy"] >= 0.88

    def test_the_end_of_a_long_review_counts(self, default_backbone):
        classifier = Classifiers().get("sentiment", default_backbone)
        plain = "We drove there on a Sunday and took the seats at the window. " * 25
        bad = "It was awful, the worst evening of the year, a complete waste of money. " * 8
        result = classifier.classify([plain + bad])[0]
        assert result.windows > 1 and result.label == "negative"


class TestTaskFolders:
    def test_shipped_files_are_small(self):
        sizes = [path.stat().st_size for path in SHIPPED.parent.rglob("*") if path.is_file()]
        assert max(sizes) < 10 * 10**6 and sum(sizes) < 60 * 10**6
        assert available() == list(CLASSIFICATION)

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"backbone": {"name": "another", "fingerprint": "0"}}, "trained on another backbone .another"),
            ({"attention": "full"}, "serves lora and head with causal attention"),
            ({"method": "prefix"}, "serves lora and head"),
            ({"labels": ["a", "b"]}, "don't belong together"),
            ({"unknown": 1}, "damaged, or of another version"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, default_artifact, tmp_path, change, message):
        shutil.copytree(SHIPPED / "intent", tmp_path / "task")
        settings = read_json(tmp_path / "task" / "head.json")
        write_json(tmp_path / "task" / "head.json", {**settings, **change})
        with pytest.raises(UserError, match=message):
            load_task(tmp_path / "task", default_artifact)

    def test_no_task(self, default_artifact, tmp_path):
        with pytest.raises(UserError, match="not a trained task"):
            load_task(tmp_path, default_artifact)
        with pytest.raises(UserError, match="No task 'nonsense'"):
            shipped_task("nonsense", default_artifact)
