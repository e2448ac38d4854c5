"""The sampler against transformers' processors and values worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gpt_tasks.backbone.sampling import Sampler, SamplingOptions, candidates, penalize_repetition
from gpt_tasks.errors import UserError

OFF = SamplingOptions(repetition_penalty=1, temperature=1, top_k=0, top_p=1, min_p=0, seed=0)
# p = 1/2, 1/4, 1/8, 1/16, 1/16
LOGITS = np.log(np.array([1 / 8, 1 / 2, 1 / 16, 1 / 4, 1 / 16], np.float32))


def distribution(logits, options):
    probabilities = np.zeros(len(logits))
    tokens, kept = candidates(logits, options)
    probabilities[tokens] = kept
    return probabilities


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, [1 / 8, 1 / 2, 1 / 16, 1 / 4, 1 / 16]),
        ({"top_k": 2}, [0, 2 / 3, 0, 1 / 3, 0]),
        ({"top_k": 99}, [1 / 8, 1 / 2, 1 / 16, 1 / 4, 1 / 16]),
        ({"top_p": 0.5}, [0, 1, 0, 0, 0]),
        ({"top_p": 0.51}, [0, 2 / 3, 0, 1 / 3, 0]),
        ({"top_p": 0.01}, [0, 1, 0, 0, 0]),
        ({"min_p": 0.2}, [1 / 7, 4 / 7, 0, 2 / 7, 0]),
        ({"temperature": 0.5}, [4 / 86, 64 / 86, 1 / 86, 16 / 86, 1 / 86]),
        ({"top_k": 3, "top_p": 0.8}, [0, 2 / 3, 0, 1 / 3, 0]),  # of the three: 4/7, 2/7, 1/7
    ],
)
def test_by_hand(change, expected):
    np.testing.assert_allclose(distribution(LOGITS, replace(OFF, **change)), expected, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    size=st.sampled_from([50, 3000]),
    spread=st.sampled_from([0.5, 3.0]),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 20]),
    top_p=st.sampled_from([1.0, 0.9, 0.3]),
    min_p=st.sampled_from([0.0, 0.1]),
    penalty=st.sampled_from([1.0, 1.3]),
)
def test_the_distribution_is_that_of_transformers(seed, size, spread, temperature, top_k, top_p, min_p, penalty):
    random = np.random.default_rng(seed)
    logits = random.normal(0, spread, size).astype(np.float32)
    seen = random.integers(0, size, 12).tolist()
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty), TemperatureLogitsWarper(temperature)])
    if top_k:
        processors.append(TopKLogitsWarper(top_k))
    processors.append(TopPLogitsWarper(top_p))
    if min_p:
        processors.append(MinPLogitsWarper(min_p))
    expected = processors(torch.tensor([seen]), torch.tensor(logits)[None])[0].softmax(-1).numpy()
    options = SamplingOptions(penalty, temperature, top_k, top_p, min_p)
    actual = distribution(penalize_repetition(logits, seen, penalty), options)
    # A token on the very edge may fall to either side of fp32 and fp64 sums.
    assert np.abs(actual - expected).sum() < 0.01


def test_sampled_frequencies_follow_the_distribution():
    sampler = Sampler(OFF)
    counts = np.bincount([sampler.choose(LOGITS, []) for _ in range(8000)], minlength=5)
    np.testing.assert_allclose(counts / 8000, np.exp(LOGITS), atol=0.02)


def test_a_seed_repeats_and_zero_temperature_is_greedy():
    options = replace(OFF, seed=7)
    first, second = Sampler(options), Sampler(options)
    assert [first.choose(LOGITS, []) for _ in range(50)] == [second.choose(LOGITS, []) for _ in range(50)]
    assert {Sampler(replace(OFF, temperature=0, seed=seed)).choose(LOGITS, []) for seed in range(5)} == {1}


def test_repetition_penalty_leaves_the_logits_as_they_were():
    logits = np.array([2.0, -2.0, 1.0], np.float32)
    assert penalize_repetition(logits, [0, 1, 0], 2).tolist() == [1.0, -4.0, 1.0]
    assert logits.tolist() == [2.0, -2.0, 1.0]


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0},
        {"top_p": 2},
        {"top_k": -1},
        {"min_p": 1},
        {"min_p": -0.1},
        {"repetition_penalty": 0},
        {"seed": -1},
    ],
)
def test_values_out_of_range(change):
    with pytest.raises(UserError, match=next(iter(change)).replace("_", " ")):
        replace(OFF, **change)
