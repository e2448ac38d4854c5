"""Several tasks that share one adapter."""

import json

import numpy as np
import pytest
import torch

from gpt_tasks.backbone.adapter import ADAPTER_FILE
from gpt_tasks.backbone.architectures import adapter_modules
from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.tasks.classification import TextClassifier
from gpt_tasks.tasks.trained_task import load_task
from gpt_tasks.tasks.windows import WindowReader
from gpt_tasks.training.methods import make_tuned
from gpt_tasks.training.objectives import Classification, Classifier, JointClassification
from tests.command_line import call

WORDS = {"manners": {"polite": "hello the", "rude": "hell hell"}, "size": {"one": "who", "two": "what is", "six": "he"}}


def write_data(folder, words):
    folder.mkdir()
    for split in ("train", "dev"):
        rows = [{"text": f"{word} {n}", "label": label} for n in range(12) for label, word in words.items()]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_loss_is_the_mean_over_all_examples(tiny_folder):
    torch.manual_seed(0)
    model = open_model(str(tiny_folder("llama")[0]))
    tuned = make_tuned("lora", load_decoder(model.weights), adapter_modules(model.hugging_face_config))
    rows = {
        "a": [([5, 6, 7], 0), ([8], 1)],
        "b": [([9, 9], 2), ([3, 4, 5, 6, 7], 0), ([1], 1)],
    }
    parts = {
        name: Classification(Classifier(tuned, "attention", 1 + len(own)), own, own, balanced=True)
        for name, own in rows.items()
    }
    joint = JointClassification(parts)
    joint.model.eval()
    assert joint.lengths == [3, 1, 2, 5, 1]
    alone = [parts["a"].loss([1]), parts["b"].loss([0]), parts["b"].loss([2])]
    torch.testing.assert_close(joint.loss([4, 1, 2]), sum(alone) / 3, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(joint.loss([0]), parts["a"].loss([0]), atol=1e-5, rtol=1e-5)
    trained = {id(parameter) for parameter in joint.model.parameters() if parameter.requires_grad}
    heads = sum(len([*part.model.head.parameters(), *part.model.pooling.parameters()]) for part in parts.values())
    assert len(trained) == len(tuned.trained()) + heads  # the adapter once


def test_each_task_gets_its_head_and_all_the_same_adapter(tiny_folder, tiny_artifact, tmp_path):
    data = [write_data(tmp_path / task, words) for task, words in WORDS.items()]
    out = tmp_path / "together"
    command = (
        "train", "--task", *WORDS, "--data", *data, "--out", out, "--model", tiny_folder("llama")[0],
        "--epochs", 20, "--learning-rate", 0.01, "--tokens-per-batch", 128, "--patience", 99,
    )  # fmt: skip
    done = call(*command)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == set(WORDS) and not (tmp_path / "together.training").exists()
    assert len({(out / task / ADAPTER_FILE).read_bytes() for task in WORDS}) == 1
    artifact, _ = tiny_artifact("llama")
    engine, reader = EncoderEngine(artifact, "fp32"), WindowReader.of(artifact, artifact.load_tokenizer())
    for task, words in WORDS.items():
        trained = load_task(out / task, artifact)
        classifier = TextClassifier(engine, reader, trained)
        logits = np.array([scored.logits for scored in classifier.score([f"{word} 5" for word in words.values()])])
        assert [trained.labels[index] for index in logits.argmax(axis=1)] == list(words)
        assert f"{out / task}: accuracy on dev" in done.stdout
        card = (out / task / "README.md").read_text()
        assert "--task manners size --data manners size --out OUT" in card
        assert f"together with {next(other for other in WORDS if other != task)} |" in card
    (out / "size" / "notes.txt").write_text("mine")
    refused = call(*command)
    assert refused.returncode == 2 and "left alone" in refused.stderr


@pytest.mark.parametrize(
    ("tasks", "data", "message"),
    [
        (["a", "b"], ["x"], "--task names 2 and --data 1"),
        (["a", "a"], ["x", "y"], "one task twice"),
        (["a", "../b"], ["x", "y"], "leave out slashes"),
        (["a", "entities"], ["x", "y"], "entities is trained alone"),
        (["a", "b"], ["x", "y", "--start", "z"], "--start is for one task"),
    ],
)
def test_what_does_not_go_together(tmp_path, tasks, data, message):
    done = call("train", "--task", *tasks, "--data", *data, "--out", tmp_path / "out")
    assert done.returncode == 2 and message in done.stderr
