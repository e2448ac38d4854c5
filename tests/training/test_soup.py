"""The mean of trained classifications."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from gpt_tasks.backbone.adapter import ADAPTER_FILE
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.tasks.trained_task import HEAD_FILE, load_task
from gpt_tasks.training.classification_data import TaskTraining
from gpt_tasks.training.options import TrainingOptions
from gpt_tasks.training.text_classification import train_task
from tests.command_line import call

WORDS = {"polite": "hello the", "rude": "hell hell"}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "dev"):
        rows = [{"text": f"{word} {n}", "label": label} for n in range(12) for label, word in WORDS.items()]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def train(tiny_folder, data, tmp_path):
    """A function: a name and options -> the folder of a task that was trained so."""

    def make(name, rank=2, **options):
        out = tmp_path / name
        settings = {"epochs": 12, "learning_rate": 1e-2, "tokens_per_batch": 128, "patience": 99, **options}
        model = open_model(str(tiny_folder("llama")[0]))
        train_task(model, data, out, TaskTraining("manners", rank=rank), TrainingOptions(**settings))
        return out

    return make


def test_parameters_are_means_and_it_serves(train, data, tiny_artifact, tmp_path):
    parts = [train("short", epochs=8), train("long"), train("quick", learning_rate=2e-2)]
    artifact, _ = tiny_artifact("llama")
    rows = [json.loads(line) for line in (data / "dev.jsonl").read_text().splitlines()]
    rows[0]["label"], rows[1]["label"] = rows[1]["label"], rows[0]["label"]  # so that a calibration has something to do
    (data / "held_out.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ("average", *parts, "--data", data / "held_out.jsonl", "--model", artifact.folder, "--precision", "fp32")
    done = call(*command, "--out", tmp_path / "soup")
    assert done.returncode == 0, done.stderr
    assert "accuracy on held_out.jsonl 91.67 % (fp32)" in done.stdout
    for name in (ADAPTER_FILE, HEAD_FILE):
        tensors = [load_file(part / name) for part in parts]
        for key, mean in load_file(tmp_path / "soup" / name).items():
            wanted = np.mean([part[key].astype(np.float64) for part in tensors], axis=0)
            np.testing.assert_allclose(mean.astype(np.float64), wanted, rtol=1e-3, atol=1e-4)
    task = load_task(tmp_path / "soup", artifact)
    assert task.settings.dev == {"accuracy": pytest.approx(22 / 24), "texts": 24, "precision": "fp32"}
    assert task.settings.temperature > 2 * load_task(parts[0], artifact).settings.temperature
    card = (tmp_path / "soup" / "README.md").read_text()
    assert "average short long quick" in card and card.count("--task manners") == 3
    done = call("classify", "--task", tmp_path / "soup", "--model", artifact.folder, "--text", "hell hell 3", "--json")
    assert json.loads(done.stdout)["label"] == "rude"


def test_what_does_not_fit(train, data, tiny_artifact, tmp_path):
    folder = tiny_artifact("llama")[0].folder
    one, other = train("one", epochs=1), train("other", rank=1, epochs=1)
    for folders, said in [([one], "at least two"), ([one, other], "must be the same"), ([one, data], "not a trained")]:
        done = call("average", *folders, "--data", data / "dev.jsonl", "--model", folder, "--out", tmp_path / "soup")
        assert done.returncode == 2 and said in done.stderr
    (data / "other.jsonl").write_text('{"text": "x", "label": "kind"}')
    done = call("average", one, one, "--data", data / "other.jsonl", "--model", folder, "--out", tmp_path / "soup")
    assert done.returncode == 2 and "'kind', which the tasks haven't got" in done.stderr
    assert not (tmp_path / "soup").exists()
