"""The exported graph and its engine against transformers, on tiny random models of every variant."""

from threading import Thread

import numpy as np
import pytest
import torch

from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.threads import available_cores
from tests import tiny_models

IDS = np.random.default_rng(2).integers(0, tiny_models.VOCABULARY, 40).tolist()


def close(actual, expected, tolerance=1e-3):
    np.testing.assert_allclose(actual, expected, atol=tolerance, rtol=tolerance)


@pytest.fixture(params=tiny_models.VARIANTS)
def engine_and_reference(request, tiny_artifact):
    artifact, reference = tiny_artifact(request.param)
    return OrtEngine(artifact, "fp32"), reference


@torch.no_grad()
def test_logits_are_those_of_transformers(engine_and_reference):
    engine, reference = engine_and_reference
    expected = reference(torch.tensor([IDS])).logits[0].numpy()
    close(engine.read(IDS, engine.new_cache(), all_logits=True), expected)
    last = engine.read(IDS, engine.new_cache())
    assert last.shape == (1, tiny_models.VOCABULARY)
    close(last[0], expected[-1])


@torch.no_grad()
def test_reading_in_pieces_equals_reading_at_once(engine_and_reference):
    engine, reference = engine_and_reference
    expected = reference(torch.tensor([IDS])).logits[0].numpy()
    cache = engine.new_cache()
    pieces = [engine.read(piece, cache, all_logits=True) for piece in (IDS[:9], IDS[9:10], IDS[10:33], IDS[33:])]
    close(np.concatenate(pieces), expected)
    assert cache.ids == IDS
    # Back to the middle, and on from there along another way.
    other = [*IDS[:20], 7, 8, 9]
    assert cache.keep_common_beginning(other) == 20
    close(engine.read(other[20:], cache, all_logits=True), reference(torch.tensor([other])).logits[0, 20:].numpy())


def test_a_cache_keeps_its_content_when_it_grows(tiny_artifact):
    engine = OrtEngine(tiny_artifact("llama")[0], "fp32")
    cache, whole = engine.new_cache(), engine.new_cache()
    engine.read(IDS[:5], cache)
    cache.reserve(5)
    capacity = cache.capacity
    with pytest.raises(ValueError, match="context of 128"):
        cache.reserve(129)
    assert cache.capacity == capacity == 128
    close(engine.read(IDS[5:], cache), engine.read(IDS, whole))


def test_growth_copies_what_was_read(default_backbone):
    engine = default_backbone.engine
    ids = np.random.default_rng(0).integers(20, 49_000, 300).tolist()
    cache, whole = engine.new_cache(), engine.new_cache()
    engine.read(ids[:256], cache)
    before = cache.capacity
    grown = engine.read(ids[256:], cache)
    assert cache.capacity > before
    close(grown, engine.read(ids, whole), 2e-2)


def test_a_cache_leaves_a_token_to_read(tiny_artifact):
    engine = OrtEngine(tiny_artifact("llama")[0], "fp32")
    cache = engine.new_cache()
    engine.read(IDS, cache)
    assert cache.keep_common_beginning(IDS) == len(IDS) - 1
    assert cache.keep_common_beginning([99_999]) == 0


@pytest.mark.parametrize("variant", tiny_models.VARIANTS)
@pytest.mark.parametrize("precision", ["int8_blocks", "int8"])
def test_int8_stays_close(tiny_artifact, variant, precision):
    artifact, _ = tiny_artifact(variant)
    reference, engine = OrtEngine(artifact, "fp32"), OrtEngine(artifact, precision)
    expected = reference.read(IDS, reference.new_cache(), all_logits=True)
    actual = engine.read(IDS, engine.new_cache(), all_logits=True)
    assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) < 0.06


def test_two_texts_at_once_do_not_meet(default_backbone):
    engine = default_backbone.engine
    texts = [np.random.default_rng(seed).integers(20, 49_000, 40).tolist() for seed in (1, 2)]
    alone, together = [None, None], [None, None]

    def read(which, results):
        cache = engine.new_cache()
        for token in texts[which]:
            results[which] = engine.read([token], cache)[0]

    for which in (0, 1):
        read(which, alone)
    threads = [Thread(target=read, args=(which, together)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which in (0, 1):
        close(together[which], alone[which], 1e-4)


@pytest.mark.parametrize(
    "files, cores",
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_cores_follow_the_quota_of_the_container(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cores(tmp_path) == (cores or 8)
