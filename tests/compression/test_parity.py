"""The exported model's quality in graded figures: by hand, and against what others measured."""

import os
from pathlib import Path

import numpy as np
import pytest

from compression import benchmark
from compression.graph_sizes import duplicated_embedding, sizes_by_kind
from compression.parity import compare
from gpt_tasks.backbone.ort_engine import OrtEngine

TEXT = Path(__file__).resolve().parents[2] / "assets" / "texts" / "check.txt"
LLAMA_CPP = 33.8876  # llama.cpp's perplexity, of the same weights in F16, with the same windows


class Fixed:
    """A model that always predicts the same distribution."""

    def __init__(self, probabilities):
        self.logits = np.log(np.array(probabilities, np.float32))

    def new_cache(self):
        return []

    def read(self, ids, cache, all_logits=False):
        cache += ids
        return np.tile(self.logits, (len(ids) if all_logits else 1, 1))


def test_figures_by_hand():
    ids = [0, 1, 2, 1] * 600  # more than two windows
    parity = compare(Fixed([0.5, 0.25, 0.25]), Fixed([0.25, 0.5, 0.25]), ids, [[0], [1]])
    # Of the tokens that follow (a window's first isn't scored): count each.
    scored = [token for begin in range(0, 2400, 1024) for token in ids[begin : begin + 1024][1:]]
    shares = np.bincount(scored) / len(scored)
    assert parity.reference_perplexity == pytest.approx(np.exp(-shares @ np.log([0.5, 0.25, 0.25])))
    assert parity.perplexity == pytest.approx(np.exp(-shares @ np.log([0.25, 0.5, 0.25])))
    assert parity.ratio == pytest.approx(parity.perplexity / parity.reference_perplexity)
    assert parity.mean_kl == pytest.approx(0.5 * np.log(2) - 0.25 * np.log(2))
    assert (parity.top1_agreement, parity.greedy_agreement) == (0, 0)
    same = compare(Fixed([0.5, 0.5]), Fixed([0.5, 0.5]), [0, 1, 1], [[0]])
    assert (same.ratio, same.mean_kl, same.top1_agreement, same.greedy_agreement) == (1, 0, 1, 1)
    with pytest.raises(ValueError, match="fewer than two"):
        compare(Fixed([1]), Fixed([1]), [0], [[0]])


@pytest.fixture(scope="module")
def parity(default_artifact):
    ids = default_artifact.load_tokenizer().encode(TEXT.read_text("utf-8"))
    return compare(OrtEngine(default_artifact, "fp32"), OrtEngine(default_artifact, "int8"), ids, [ids[:8]])


def test_fp32_has_the_perplexity_that_llama_cpp_measures(parity):
    assert parity.reference_perplexity == pytest.approx(LLAMA_CPP, rel=0.005)


WIKITEXT = "GPT_TASKS_WIKITEXT"
LLAMA_CPP_ON_WIKITEXT = 18.6938  # of the first 20 windows of the first 120,000 characters


@pytest.mark.skipif(WIKITEXT not in os.environ, reason=f"name WikiText-2's raw validation text in {WIKITEXT} to run it")
def test_perplexity_on_wikitext_is_what_llama_cpp_measures(default_artifact):
    text = Path(os.environ[WIKITEXT]).read_text("utf-8")[:120_000]
    ids = default_artifact.load_tokenizer().encode(text)[: 20 * 1024]
    parity = compare(OrtEngine(default_artifact, "fp32"), OrtEngine(default_artifact, "int8"), ids, [])
    assert parity.reference_perplexity == pytest.approx(LLAMA_CPP_ON_WIKITEXT, rel=0.005)
    assert parity.ratio <= 1.01


def test_int8_costs_less_than_one_per_cent(parity):
    assert parity.ratio <= 1.01
    assert parity.top1_agreement > 0.93
    assert parity.mean_kl < 0.02


def test_sizes_by_kind_sum_up_to_the_file(default_artifact):
    path = default_artifact.graph_path("fp32")
    sizes = sizes_by_kind(path)
    assert sizes["embedding.weight"] == 49_152 * 576 * 4
    assert sizes["feed_forward.down.weight"] == 30 * 1536 * 576 * 4
    assert sum(sizes.values()) == pytest.approx(
        10**6 * default_artifact.report["precisions"]["fp32"]["size_mb"], rel=0.01
    )


def test_a_tied_embedding_that_is_stored_twice_is_seen(default_artifact, tiny_artifact):
    assert duplicated_embedding(default_artifact.graph_path("int8"), 49_152, 576) == []
    untied = tiny_artifact("llama_untied")[0]
    assert len(duplicated_embedding(untied.graph_path("fp32"), 300, 64)) == 2


def test_a_row_is_held_against_its_peer():
    def row(engine, precision, decode, prefill):
        return benchmark.Row(engine, precision, decode, prefill, 1, 1, 1, 1)

    rows = benchmark._with_ratios(
        [row("llama.cpp", "Q4_1", 100, 400), row("ours", "int4_fast", 160, 1400), row("ours", "fp32", 90, 1500)]
    )
    assert [(r.peer, r.decode_ratio, r.prefill_ratio) for r in rows] == [
        (None, None, None),
        ("llama.cpp Q4_1", 1.6, 3.5),
        (None, None, None),
    ]
