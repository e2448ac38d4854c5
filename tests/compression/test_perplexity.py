"""The exported model's quality, in figures that others measured."""

from pathlib import Path

import numpy as np
import pytest

from compression.perplexity import log_probabilities, perplexity
from gpt_tasks.backbone.backbone import Backbone

TEXT = Path(__file__).resolve().parents[2] / "assets" / "texts" / "check.txt"
LLAMA_CPP = 33.8876  # llama.cpp's, of the same weights in F16, with the same windows


def test_perplexity_by_hand():
    # Logits that give the right next token 1/4 and the rest the other three quarters.
    logits = np.log(np.array([0.25, 0.25, 0.25, 0.25], np.float32))
    assert perplexity(lambda ids: np.tile(logits, (len(ids), 1)), [0, 1, 2, 3, 0, 1, 2], window=3) == pytest.approx(4)
    np.testing.assert_allclose(np.exp(log_probabilities(logits + 1000)), 0.25)
    with pytest.raises(ValueError, match="fewer than two"):
        perplexity(lambda ids: None, [1])


@pytest.fixture(scope="module")
def measured(default_artifact):
    """precision -> perplexity, and the likeliest token at each position"""
    found = {}
    for precision in default_artifact.precisions:
        backbone = Backbone(default_artifact, precision)
        likeliest = []

        def read(ids, backbone=backbone, likeliest=likeliest):
            logits = backbone.engine.read(ids, backbone.engine.new_cache(), all_logits=True)
            likeliest.append(logits.argmax(-1))
            return logits

        ids = backbone.tokenizer.encode(TEXT.read_text("utf-8"))
        found[precision] = perplexity(read, ids), np.concatenate(likeliest)
    return found


def test_fp32_has_the_perplexity_that_llama_cpp_measures(measured):
    assert measured["fp32"][0] == pytest.approx(LLAMA_CPP, rel=0.005)


def test_int8_blocks_cost_less_than_one_per_cent(measured):
    assert measured["int8_blocks"][0] <= 1.01 * measured["fp32"][0]
    agreement = (measured["int8_blocks"][1] == measured["fp32"][1]).mean()
    assert agreement > 0.93
