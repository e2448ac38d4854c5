"""Features of the frozen backbone and what is taught on them."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from gpt_tasks.errors import UserError
from gpt_tasks.tasks import lesson
from gpt_tasks.tasks.lesson import fit, learn, learn_apart
from gpt_tasks.tasks.taught import QUESTION, FeatureReader, Taught, TaughtClassifier, from_file, numbered, to_bytes
from gpt_tasks.tasks.text_files import LabelledText
from gpt_tasks.tasks.windows import WindowReader

EXAMPLES = {
    "cooking": ["Fry the onions in butter.", "Add a pinch of salt to the soup.", "Bake the bread for an hour."],
    "sports": ["The striker scored twice.", "She won the race by a second.", "The coach praised his team."],
    "weather": ["It rained all night.", "A cold wind blows from the north.", "Tomorrow will be sunny."],
}
ROWS = [LabelledText(text, label, 1) for label, texts in EXAMPLES.items() for text in texts]
NEW = {
    "Stir the sauce and let it simmer.": "cooking",
    "The goalkeeper saved a penalty.": "sports",
    "Heavy snow fell in the mountains.": "weather",
}


@pytest.fixture(scope="module")
def reader(default_backbone):
    return FeatureReader(
        default_backbone.encoder, WindowReader.of(default_backbone.artifact, default_backbone.tokenizer)
    )


@pytest.fixture(scope="module")
def made(reader, default_artifact, tmp_path_factory):
    labels, truth = numbered(ROWS)
    features = reader.read([row.text for row in ROWS])
    learned = learn(features, truth, labels, tmp_path_factory.mktemp("lesson") / "confusion.svg")
    return Taught(labels, learned, default_artifact.fingerprint)


class TestFit:
    def test_without_shrinkage_it_is_scikit_learns(self, monkeypatch):
        monkeypatch.setattr(lesson, "_SHRINKAGE", 1e-9)
        rng = np.random.default_rng(0)
        truth = rng.permutation(np.repeat([0, 1, 2], 50))
        x = rng.normal(size=(150, 4)) @ rng.normal(size=(4, 4)) + np.eye(3, 4)[truth] * 2
        ours = fit(x, truth, 3).logits(x)
        theirs = LinearDiscriminantAnalysis(priors=[1 / 3] * 3, solver="eigen").fit(x, truth).decision_function(x)
        centered = [scores - scores.mean(axis=1, keepdims=True) for scores in (ours, theirs)]
        # scikit-learn divides by n too; a constant a row is no difference.
        np.testing.assert_allclose(*centered, rtol=1e-3, atol=1e-3)

    def test_more_features_than_examples(self):
        """The way through singular vectors against the p x p matrix."""
        rng = np.random.default_rng(1)
        truth = np.repeat([0, 1], 5)
        x = rng.normal(size=(10, 30)) + truth[:, None]
        model = fit(x, truth, 2)
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        means = np.stack([z[truth == k].mean(axis=0) for k in (0, 1)])
        spread = (z - means[truth]).T @ (z - means[truth]) / 10
        sigma = 0.3 * spread + 0.7 * np.trace(spread) / 30 * np.eye(30)
        weight = np.linalg.solve(sigma, means.T).T
        np.testing.assert_allclose(model.weight, weight, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model.bias, -0.5 * (weight * means).sum(axis=1), rtol=1e-4)


class TestTeaching:
    def test_learns_from_three_examples_a_label(self, reader, made, default_backbone):
        found = TaughtClassifier(reader, made).classify(list(NEW))
        assert [result.label for result in found] == list(NEW.values())
        tokenizer = default_backbone.tokenizer
        assert [result.tokens for result in found] == [len(tokenizer.encode(text)) for text in NEW]
        assert [result.windows for result in found] == [1] * len(NEW)
        long = TaughtClassifier(reader, made).classify(["It rains. " * 300])[0]
        assert long.windows > 1 and long.tokens > 512 and long.label == "weather"
        assert made.learned.confusion.sum() == len(ROWS)
        assert made.learned.accuracy == np.trace(made.learned.confusion) / len(ROWS) > 0.5

    def test_features_are_those_of_the_torch_decoder(self, default_artifact, reader):
        from gpt_tasks.backbone.torch_engine import load_decoder
        from gpt_tasks.backbone.weights import open_model

        windows = WindowReader.of(default_artifact, default_artifact.load_tokenizer())
        ids, question = windows.first("It rained all night."), windows.tokens(QUESTION)
        outputs = []
        with torch.no_grad():
            load_decoder(open_model("default").weights).encode(torch.tensor([ids + question]), layer_outputs=outputs)
        layers = [outputs[n - 1][0].numpy() for n in (6, 12, 18, 24)]  # [tokens, hidden] each
        expected = np.concatenate(
            [layer[1 : len(ids)].mean(axis=0) for layer in layers] + [layer[-1] for layer in layers]
        )
        found = reader.read(["It rained all night."])[0]
        assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.99  # int8

    @pytest.mark.parametrize(
        "rows, message",
        [
            ([("a", "x"), ("b", "x")], "at least two labels"),
            ([("a", "x"), ("b", "x"), ("c", "y")], "'y' has one example only"),
            ([("a", "x"), ("b", " "), ("c", "y")], "label is empty"),
        ],
    )
    def test_what_cannot_be_taught(self, reader, rows, message):
        with pytest.raises(UserError, match=message):
            numbered([LabelledText(text, label, 1) for text, label in rows])


class TestLearningApart:
    def made(self):
        rng = np.random.default_rng(2)
        truth = np.repeat([0, 1, 2], 6)
        return rng.normal(size=(18, 40)).astype(np.float32) + np.eye(3, 40)[truth], truth, ["$a_$", "b" * 500, "退款"]

    def test_learns_the_same_as_here(self, tmp_path):
        here = learn(*self.made(), tmp_path / "here.svg")
        there = learn_apart(*self.made(), tmp_path / "there.svg", stopped=lambda: False)
        for name in vars(here):
            np.testing.assert_allclose(getattr(there, name), getattr(here, name), rtol=1e-5)
        assert (tmp_path / "there.svg").read_bytes() == (tmp_path / "here.svg").read_bytes()

    def test_the_pictures_labels_are_text(self, tmp_path):
        """No font for them is needed here."""
        learn(*self.made(), tmp_path / "c.svg")
        picture = (tmp_path / "c.svg").read_text("utf-8")
        for label in ("$a_$", "b" * 40 + "…", "退款"):
            assert picture.count(f">{label}<") == 2, label  # on both axes

    def test_ends_when_it_is_stopped(self, tmp_path):
        assert learn_apart(*self.made(), tmp_path / "c.svg", stopped=lambda: True) is None
        assert not list(tmp_path.iterdir())

    def test_says_what_went_wrong(self, tmp_path):
        features, truth, labels = self.made()
        with pytest.raises(RuntimeError, match="Error"):
            learn_apart(np.full_like(features, np.nan), truth, labels, tmp_path / "c.svg", stopped=lambda: False)


class TestFile:
    def test_comes_back_as_it_was(self, reader, made, default_artifact, tmp_path):
        (tmp_path / "c.safetensors").write_bytes(to_bytes(made))
        again = from_file(tmp_path / "c.safetensors", default_artifact)
        for one, other in zip(
            TaughtClassifier(reader, made).classify(list(NEW)),
            TaughtClassifier(reader, again).classify(list(NEW)),
            strict=True,
        ):
            assert one.probabilities == pytest.approx(other.probabilities)

    def test_edited_or_foreign_or_broken_files_are_refused(self, made, default_artifact, tiny_artifact, tmp_path):
        content = to_bytes(made)
        path = tmp_path / "c.safetensors"
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        tensors = load(content)
        path.write_bytes(save({**tensors, "bias": tensors["bias"] + 1}, header))
        with pytest.raises(UserError, match="was changed"):
            from_file(path, default_artifact)
        path.write_bytes(save(tensors, {**header, "classifier": header["classifier"].replace("sports", "sport")}))
        with pytest.raises(UserError, match="was changed"):
            from_file(path, default_artifact)
        path.write_bytes(content)
        with pytest.raises(UserError, match="another model"):
            from_file(path, tiny_artifact("llama")[0])
        path.write_bytes(content[:1000])
        with pytest.raises(UserError, match="damaged"):
            from_file(path, default_artifact)
        path.write_bytes(save({"x": np.zeros(2)}))
        with pytest.raises(UserError, match="not a taught classifier"):
            from_file(path, default_artifact)

    @pytest.mark.parametrize(
        "change",
        [
            lambda facts, tensors: facts.update(labels=["a"]),
            lambda facts, tensors: facts.update(labels=[1, 2, 3]),
            lambda facts, tensors: facts.update(labels={"a": 1, "b": 2}),
            lambda facts, tensors: facts.update(temperature="hot"),
            lambda facts, tensors: facts.update(temperature=0),
            lambda facts, tensors: facts.update(confusion=[]),
            lambda facts, tensors: facts.update(confusion=[["x"] * 3] * 3),
            lambda facts, tensors: facts.pop("fingerprint"),
            lambda facts, tensors: tensors.update(bias=tensors["bias"][:1]),
            lambda facts, tensors: tensors.update(weight=tensors["weight"].T.copy()),
            lambda facts, tensors: tensors.update(mean=tensors["mean"].astype(np.int8)),
            lambda facts, tensors: tensors.update(bias=np.full_like(tensors["bias"], np.nan)),
            lambda facts, tensors: tensors.update(
                {n: tensors[n][..., :9].copy() for n in ("mean", "deviation", "weight")}
            ),
        ],
    )
    def test_a_forged_file_whose_hash_fits_is_refused(self, made, default_artifact, tmp_path, change):
        content = to_bytes(made)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        facts, tensors = json.loads(header["classifier"]), load(content)
        change(facts, tensors)
        settings = json.dumps(facts)
        digest = hashlib.sha256(settings.encode())
        for name in ("mean", "deviation", "weight", "bias"):
            digest.update(np.ascontiguousarray(tensors[name]).tobytes())
        path = tmp_path / "c.safetensors"
        path.write_bytes(save(tensors, {"classifier": settings, "sha256": digest.hexdigest()}))
        with pytest.raises(UserError, match="not a taught classifier"):
            from_file(path, default_artifact)
