"""What is left of a matrix with zeros, against least squares row by row."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from compression.calibration import second_moments
from compression.pruning.masks import wanda_mask
from compression.pruning.refit import refit
from compression.pruning.sparse_gpt import sparse_gpt

RANDOM = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(*shape, generator=RANDOM, dtype=torch.float64)


def correlated(tokens, channels):
    return random(tokens, channels) @ random(channels, channels)


@pytest.fixture
def case():
    inputs, weight = correlated(400, 12), random(5, 12)
    moments = second_moments(inputs)
    return inputs, weight, moments, weight * wanda_mask(weight, moments.diagonal().sqrt(), 0.5)


def test_each_row_is_the_least_squares_solution_on_its_columns(case):
    inputs, weight, moments, sparse = case
    found = refit(weight, sparse, moments, damping=0.0, steps=100)
    for row, kept in enumerate(sparse != 0):
        expected = torch.linalg.lstsq(inputs[:, kept], inputs @ weight[row]).solution
        torch.testing.assert_close(found[row, kept], expected, rtol=1e-6, atol=1e-8)
        assert (found[row, ~kept] == 0).all()


def test_damped_it_stays_near_the_weights_that_were(case):
    inputs, weight, moments, sparse = case
    found, sizes = refit(weight, sparse, moments, damping=0.3, steps=100), moments.diagonal().sqrt()
    kept = sparse[0] != 0
    change = Ridge(alpha=0.3 * len(inputs), fit_intercept=False).fit(
        (inputs / sizes)[:, kept].numpy(), (inputs[:, ~kept] @ weight[0, ~kept]).numpy()
    )
    expected = weight[0, kept].numpy() + change.coef_ / sizes[kept].numpy()
    np.testing.assert_allclose(found[0, kept].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_every_step_brings_sparse_gpt_nearer(steps):
    inputs, weight = correlated(400, 32), random(6, 32)
    moments = second_moments(inputs)
    damped = moments + 0.1 * torch.diag(moments.diagonal())
    sparse = sparse_gpt(weight, moments, 0.5)

    def error(found):
        return float(((found - weight) @ damped * (found - weight)).sum())

    assert error(refit(weight, sparse, moments, steps=steps)) < error(refit(weight, sparse, moments, steps=steps - 1))
    assert error(refit(weight, sparse, moments, steps=0)) == pytest.approx(error(sparse))


def test_nothing_changes_where_no_zero_was_made_and_where_all_are():
    moments, weight = second_moments(correlated(50, 8)), random(3, 8)
    torch.testing.assert_close(refit(weight, weight, moments), weight)
    assert (refit(weight, torch.zeros_like(weight), moments) == 0).all()


def test_of_an_input_that_is_always_zero_nothing_can_be_told():
    inputs, weight = correlated(100, 6), random(2, 6)
    inputs[:, 2] = 0
    sparse = torch.where(torch.arange(6) < 3, weight, 0.0)
    found = refit(weight, sparse, second_moments(inputs))
    assert found.isfinite().all() and torch.equal(found[:, 2], weight[:, 2])
