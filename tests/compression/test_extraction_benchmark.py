"""What the extraction benchmark measures, on tiny models."""

from dataclasses import replace

import pytest

from compression import extraction_benchmark as benchmark
from gpt_tasks.backbone.encoder_interface import feature_layers
from gpt_tasks.tasks.extraction.extraction_task import write_extraction
from tests.tasks.extraction.test_text_extraction import random_task


@pytest.fixture
def task(tiny_artifact, tmp_path):
    artifact, _ = tiny_artifact("llama")
    made = random_task(artifact.config.hidden_size, len(feature_layers(artifact.config)))
    settings = replace(made.settings, backbone={"name": "tiny", "fingerprint": artifact.fingerprint})
    write_extraction(tmp_path, settings, made.head)
    return tmp_path


@pytest.mark.parametrize("engine", ["ours", "transformers"])
def test_one_engine_is_measured(tiny_artifact, tiny_folder, task, monkeypatch, engine):
    monkeypatch.setattr(benchmark, "WORDS", 60)
    artifact, checkpoint = tiny_artifact("llama")[0].folder, tiny_folder("llama")[0]
    path = artifact if engine == "ours" else checkpoint
    row = benchmark.measure(benchmark.Contestant(engine, "fp32", str(path), str(artifact), str(task), 2))
    assert min(row.article_seconds, row.tokens_per_second, row.size_mb) > 0


def test_the_article_has_so_many_words():
    assert len(benchmark.article().split()) == benchmark.WORDS


def test_ours_is_held_against_the_peer():
    def row(engine, speed):
        return benchmark.Row(engine, "fp32", 1, speed, 1, 1, 1)

    assert [r.ratio for r in benchmark.with_ratios([row("ours", 300), row("transformers", 100)])] == [3.0, None]
    assert benchmark.with_ratios([row("ours", 300)])[0].ratio is None
