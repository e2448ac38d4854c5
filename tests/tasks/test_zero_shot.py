"""Likelihoods against transformers; labels and templates that can't be."""

import numpy as np
import pytest
import torch

from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.zero_shot import ZeroShotClassifier


@pytest.fixture
def tiny(tiny_artifact):
    artifact, reference = tiny_artifact("llama")
    return OrtEngine(artifact, "fp32"), artifact.load_tokenizer(), reference


def log_likelihood(reference, prompt, label):
    with torch.no_grad():
        logits = reference(torch.tensor([prompt + label])).logits[0].log_softmax(-1)
    return sum(logits[len(prompt) + i - 1, token].item() for i, token in enumerate(label))


def test_probabilities_are_those_of_the_formula(tiny):
    engine, tokenizer, reference = tiny
    labels, template = ["the sea", "hello"], "It is {} that counts"
    result = ZeroShotClassifier(engine, tokenizer, labels, template).classify("some text")
    scores = []
    for label in labels:
        own, *free = (
            log_likelihood(
                reference, tokenizer.encode(text) + tokenizer.encode("\nIt is"), tokenizer.encode(f" {label}")
            )
            for text in ("some text", "N/A", "[MASK]", "...")
        )
        scores.append(own - np.mean(free))
    expected = np.exp(scores) / np.exp(scores).sum()
    assert list(result.probabilities) == labels
    np.testing.assert_allclose(list(result.probabilities.values()), expected, atol=1e-4)
    assert result.label == labels[int(np.argmax(scores))] and not result.cut


def test_a_long_text_is_cut_and_that_is_said(tiny):
    engine, tokenizer, _ = tiny
    result = ZeroShotClassifier(engine, tokenizer, ["a", "b"]).classify("x" * 500)
    assert result.cut and result.tokens == 500


def test_the_default_model_knows_what_a_text_is_about(default_backbone):
    classifier = ZeroShotClassifier(
        default_backbone.engine, default_backbone.tokenizer, ["sports", "cooking", "astronomy"]
    )
    texts = {
        "The striker scored twice in the second half and the crowd went wild.": "sports",
        "Chop the onions, fry them in butter and add the rice.": "cooking",
        "The telescope saw a faint galaxy behind the planet.": "astronomy",
    }
    assert [classifier.classify(text).label for text in texts] == list(texts.values())


@pytest.mark.parametrize(
    "labels, template, message",
    [
        (["a"], "{}", "At least two"),
        ([], "{}", "At least two"),
        (["a", " "], "{}", "is empty"),
        (["Sports", "sports "], "{}", "there twice"),
        ([str(n) for n in range(60)], "{}", "At most 50"),
        (["a", "b"], "no place", "once"),
        (["a", "b"], "{} and {}", "once"),
        (["a", "b"], "x" * 400 + "{}", "at most 300"),
    ],
)
def test_what_cannot_be(tiny, labels, template, message):
    with pytest.raises(UserError, match=message):
        ZeroShotClassifier(*tiny[:2], labels, template)


def test_an_empty_text(tiny):
    with pytest.raises(UserError, match="empty"):
        ZeroShotClassifier(*tiny[:2], ["a", "b"]).classify(" ")
