"""Masks and SparseGPT on small matrices, by hand and by brute force."""

from itertools import combinations

import pytest
import torch

from compression.pruning.masks import magnitude_mask, wanda_mask
from compression.pruning.sparse_gpt import sparse_gpt

RANDOM = torch.Generator().manual_seed(0)
WEIGHT = torch.tensor([[3.0, -1, 2, -4], [0.5, 6, -7, 0.25]])


def test_magnitude_takes_the_smallest_of_the_whole_matrix():
    assert magnitude_mask(WEIGHT, 0.5).tolist() == [[True, False, False, True], [False, True, True, False]]


def test_magnitude_in_a_pattern_takes_two_of_every_four():
    assert magnitude_mask(WEIGHT, 0.9, (2, 4)).tolist() == [[True, False, False, True], [False, True, True, False]]


def test_wanda_weighs_with_the_inputs_and_takes_from_every_row():
    norms = torch.tensor([1.0, 10, 1, 0.1])
    # scores: [3, 10, 2, 0.4] and [0.5, 60, 7, 0.025]
    assert wanda_mask(WEIGHT, norms, 0.5).tolist() == [[True, True, False, False], [False, True, True, False]]
    assert wanda_mask(WEIGHT, norms, 0.25).sum(dim=1).tolist() == [3, 3]
    assert wanda_mask(WEIGHT, norms, 0.5, (1, 2)).tolist() == [[False, True, True, False], [False, True, True, False]]


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.75])
def test_a_row_loses_what_is_asked(sparsity):
    weight, x = torch.randn(6, 20, generator=RANDOM), torch.randn(50, 20, generator=RANDOM)
    found = sparse_gpt(weight, x.T @ x, sparsity)
    assert (found == 0).float().mean().item() == pytest.approx(sparsity, abs=0.01)


def test_sparse_gpt_is_the_least_squares_solution_of_what_its_mask_leaves_free():
    """The first column goes, say: then the others have to be the least-squares fit of the dense output."""
    x = torch.randn(200, 5, generator=RANDOM, dtype=torch.float64)
    weight = torch.randn(1, 5, generator=RANDOM, dtype=torch.float64)
    weight[0, 0] = 1e-3  # the cheapest
    found = sparse_gpt(weight, x.T @ x, 0.2, damping=1e-9)
    assert (found == 0).tolist() == [[True, False, False, False, False]]
    expected = torch.linalg.lstsq(x[:, 1:], x @ weight[0]).solution
    assert torch.allclose(found[0, 1:], expected, atol=1e-6)


def test_sparse_gpt_chooses_what_costs_least_when_the_rest_makes_up_for_it():
    x = torch.randn(300, 4, generator=RANDOM, dtype=torch.float64)
    x[:, 3] = x[:, 2] + 0.01 * x[:, 3]  # nearly the same input twice: one of them can go
    weight = torch.tensor([[1.0, -1.0, 2.0, 2.0]], dtype=torch.float64)
    found = sparse_gpt(weight, x.T @ x, 0.25, damping=1e-9)

    def best_without(gone: tuple[int, ...]) -> float:
        left = [column for column in range(4) if column not in gone]
        fit = torch.linalg.lstsq(x[:, left], x @ weight[0]).solution
        return (x[:, left] @ fit - x @ weight[0]).square().sum().item()

    errors = {gone: best_without(gone) for gone in combinations(range(4), 1)}
    error = (x @ (found - weight)[0]).square().sum().item()
    assert found[0, 2] == 0
    # Only what stands to the right makes up for a column, so that a little is left of the best there is.
    assert min(errors.values()) <= error < 1.05 * min(errors.values())
    assert error < 0.01 * sorted(errors.values())[2]


def test_the_size_of_a_channel_changes_nothing_for_sparse_gpt():
    """A channel that is 1000 times larger with weights as much smaller is the same layer."""
    own = torch.Generator().manual_seed(1)
    x, weight = torch.randn(100, 12, generator=own), torch.randn(8, 12, generator=own)
    sizes = torch.tensor([1000.0, 0.01] + [1.0] * 10)
    x[:, 5] = 0  # and one that is always 0
    found = sparse_gpt(weight / sizes, (x * sizes).T @ (x * sizes), 0.5)
    assert torch.allclose(found * sizes, sparse_gpt(weight, x.T @ x, 0.5), atol=1e-4)
    assert found.isfinite().all()


@pytest.mark.parametrize("pattern", [(2, 4), (1, 2), (3, 4)])
def test_sparse_gpt_keeps_the_pattern_and_beats_the_masks(pattern):
    x = torch.randn(400, 32, generator=RANDOM) @ torch.randn(32, 32, generator=RANDOM)
    weight = torch.randn(16, 32, generator=RANDOM)
    found = sparse_gpt(weight, x.T @ x, 0.5, pattern)
    assert ((found == 0).unflatten(1, (-1, pattern[1])).sum(dim=2) == pattern[0]).all()

    def error(pruned: torch.Tensor) -> float:
        return (x @ (pruned - weight).T).square().sum().item()

    wanda = error(weight * wanda_mask(weight, x.norm(dim=0), 0.5, pattern))
    magnitude = error(weight * magnitude_mask(weight, 0.5, pattern))
    assert error(found) < 0.8 * min(wanda, magnitude)


def test_panels_give_what_one_panel_gives(monkeypatch):
    """With a pattern the mask is chosen group by group, so that panels only save time."""
    x = torch.randn(400, 32, generator=RANDOM, dtype=torch.float64)
    weight = torch.randn(4, 32, generator=RANDOM, dtype=torch.float64)
    whole = sparse_gpt(weight, x.T @ x, 0.5, (2, 4))
    monkeypatch.setattr("compression.pruning.sparse_gpt._PANEL", 8)
    assert torch.allclose(sparse_gpt(weight, x.T @ x, 0.5, (2, 4)), whole)
