"""What a matrix makes up for, against ridge and least-squares regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from compression.calibration import cross_moments, second_moments
from compression.pruning.error_feedback import with_feedback

RANDOM = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(*shape, generator=RANDOM, dtype=torch.float64)


def test_without_damping_the_output_is_as_near_as_it_can_be():
    wanted, found, weight = random(300, 6), random(300, 6), random(4, 6)
    lacking = (wanted - found) @ weight.T
    corrected = with_feedback(weight, second_moments(found), cross_moments(lacking, found), 1.0, 1e-12)
    expected = torch.linalg.lstsq(found, wanted @ weight.T).solution.T
    torch.testing.assert_close(corrected, expected, atol=1e-6, rtol=1e-6)


def test_damped_it_is_a_ridge_regression_of_channels_of_one_size():
    found, lacking = random(200, 5), random(200, 3)
    sizes = (found.square().sum(dim=0) / 200).sqrt()
    corrected = with_feedback(
        torch.zeros(3, 5).double(), second_moments(found), cross_moments(lacking, found), 0.5, 0.7
    )
    ridge = Ridge(alpha=0.7 * 200, fit_intercept=False).fit((found / sizes).numpy(), lacking.numpy())
    np.testing.assert_allclose(corrected.numpy(), 0.5 * ridge.coef_ / sizes.numpy(), rtol=1e-6)


def test_nothing_lacks_where_nothing_has_changed():
    found, weight = random(50, 4), random(2, 4)
    found[:, 1] = 0  # of an input that is always 0 nothing can be told
    assert torch.equal(with_feedback(weight, second_moments(found), torch.zeros(2, 4).double()), weight)
    changed = with_feedback(weight, second_moments(found), cross_moments(random(50, 2), found))
    assert changed.isfinite().all() and torch.equal(changed[:, 1], weight[:, 1])


def test_a_massive_token_counts_as_a_large_one():
    x, y = random(100, 4), random(100, 2)
    heavy = torch.cat([x, 1e6 * x[:1]]), torch.cat([y, 1e6 * y[:1]])
    assert cross_moments(y, x).abs().max() < 1
    assert cross_moments(*reversed(heavy)).abs().max() < 1e3


@pytest.mark.parametrize("rows", [7, 40])
def test_cross_moments_of_a_matrix_with_itself_are_its_second_moments(rows):
    x = random(rows, 5)
    torch.testing.assert_close(cross_moments(x, x), second_moments(x))
