"""The engines that are measured against each other compute the same."""

import numpy as np
import pytest

from compression import classification_benchmark as benchmark
from compression.encoder_peers import merged_checkpoint, open_encoder, optimum_int8
from compression.peers import checkpoint_folder
from gpt_tasks.tasks.heads import LinearHead
from gpt_tasks.tasks.trained_task import TaskSettings, write_head
from tests import tiny_models
from tests.compression.test_encoder_graph import ROWS, random_adapter


@pytest.fixture
def task(tmp_path):
    """A folder with a random adapter and head for the tiny model."""
    folder = tmp_path / "task"
    random_adapter(tiny_models.make("llama"), "llama", folder)
    head = LinearHead("mean", np.eye(3, 64, dtype=np.float32), np.zeros(3, np.float32))
    settings = TaskSettings("task", ["a", "b", "c"], "lora", "causal", "mean", 1.0, {"name": "", "fingerprint": ""})
    write_head(folder, settings, head, None)
    return folder


def test_engines_agree_with_the_adapter_active(tiny_folder, tiny_artifact, task, tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path / "home"))
    source, artifact = str(tiny_folder("llama")[0]), tiny_artifact("llama")[0]
    merged = merged_checkpoint(source, task)
    entries = {
        "ours": open_encoder("ours", "fp32", str(artifact.folder), str(task), 2),
        "PEFT": open_encoder("transformers", "fp32 PEFT", str(checkpoint_folder(source)), str(task), 2),
        "merged": open_encoder("transformers", "fp32 merged", str(merged), str(task), 2),
        "optimum": open_encoder("optimum", "int8 merged", str(optimum_int8(merged)), str(task), 2),
    }
    found = {name: encoder.encode(ROWS) for name, encoder in entries.items()}
    valid = found["ours"][1] == 1
    for name in ("PEFT", "merged"):
        np.testing.assert_array_equal(found[name][1], found["ours"][1])
        np.testing.assert_allclose(found[name][0][valid], found["ours"][0][valid], atol=5e-4)
    ours, optimum = found["ours"][0][valid], found["optimum"][0][valid]
    cosine = (ours * optimum).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(optimum, axis=-1)
    assert cosine.min() > 0.95
    assert all(encoder.size_mb > 0 for encoder in entries.values())


def test_one_engine_is_measured(tiny_artifact, task, monkeypatch):
    monkeypatch.setattr(benchmark, "_VOCABULARY", 300)
    monkeypatch.setattr(benchmark, "SENTENCES", 250)
    row = benchmark.measure(benchmark.Contestant("ours", "int8", str(tiny_artifact("llama")[0].folder), str(task), 2))
    assert row.sentence_ms > 0 and row.sentences_per_second > 0 and row.batch_tokens in benchmark._BATCH_TOKENS


def test_ours_are_held_against_every_peer():
    def row(engine, precision, milliseconds, speed):
        return benchmark.Row(engine, precision, milliseconds, speed, 512, 1, 1, 1)

    rows = benchmark._with_ratios([row("ours", "int8", 20, 150), row("transformers", "fp32 PEFT", 90, 60)])
    assert [r.ratios for r in rows] == [{"transformers fp32 PEFT": (4.5, 2.5)}, None]
    assert benchmark._with_ratios([row("ours", "int8", 20, 150)])[0].ratios is None
