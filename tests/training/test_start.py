"""A classification that begins with one that was trained before."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from gpt_tasks.backbone.adapter import ADAPTER_FILE
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.trained_task import HEAD_FILE
from gpt_tasks.training.classification_data import TaskTraining
from gpt_tasks.training.options import TrainingOptions
from gpt_tasks.training.text_classification import train_task

LEARNT = TrainingOptions(epochs=12, learning_rate=1e-2, tokens_per_batch=128, patience=99)
STILL = TrainingOptions(epochs=0.1, learning_rate=1e-9)


@pytest.fixture
def data(tmp_path):
    """A function: labels -> a folder with two kinds of text."""

    def make(*labels):
        folder = tmp_path / "-".join(labels)
        folder.mkdir(exist_ok=True)
        for split in ("train", "dev"):
            rows = [{"text": f"{word} {n}", "label": label} for n in range(12)
                    for label, word in zip(labels, ("hello the", "hell hell"), strict=True)]  # fmt: skip
            (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return folder

    return make


@pytest.fixture
def train(tiny_folder, data, tmp_path):
    """A function: a name -> the folder of a task that was trained so, and its accuracy."""

    def make(name, options=LEARNT, family="llama", labels=("polite", "rude"), **training):
        model, out = open_model(str(tiny_folder(family)[0])), tmp_path / name
        settings = {"rank": 2, **training}
        return out, train_task(model, data(*labels), out, TaskTraining("manners", **settings), options)["accuracy"]

    return make


@pytest.mark.parametrize("method", ["lora", "head"])
def test_a_step_of_no_size_leaves_what_it_begins_with(train, method):
    first, accuracy = train("first", method=method)
    second, again = train("second", STILL, method=method, start=str(first))
    assert again == pytest.approx(accuracy, abs=0.05) and accuracy > 0.9
    for name in (HEAD_FILE, ADAPTER_FILE)[: 1 + (method == "lora")]:
        begun = load_file(first / name)
        for key, tensor in load_file(second / name).items():
            np.testing.assert_allclose(tensor, begun[key], rtol=1e-3, atol=1e-5)
    assert "--start first" in (second / "README.md").read_text()


def test_lora_begins_with_a_head(train):
    head, _ = train("head", method="head")
    lora, _ = train("lora", STILL, start=str(head))
    np.testing.assert_allclose(load_file(lora / HEAD_FILE)["weight"], load_file(head / HEAD_FILE)["weight"], atol=1e-5)
    assert all((tensor == 0).all() or "lora_A" in name for name, tensor in load_file(lora / ADAPTER_FILE).items())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 4}, "rank 4"),
        ({"labels": ("warm", "cold")}, "other labels"),
        ({"pooling": "mean"}, "Give the same"),
        ({"causal": False}, "Give the same"),
        ({"family": "qwen2"}, "another backbone"),
        ({"method": "head"}, "head begins with head"),
        ({"method": "full"}, "head begins with head"),
        ({"start": "nothing"}, "not a trained task"),
    ],
)
def test_what_does_not_fit_is_refused(train, tmp_path, options, words):
    first, _ = train("first", STILL)
    with pytest.raises(UserError, match=words):
        train("out", STILL, **{"start": str(first), **options})
    assert not (tmp_path / "out").exists()
