"""Against torch's log_softmax over the whole vocabulary."""

import pytest
import torch

from compression.distillation import log_probabilities
from compression.distillation.log_probabilities import log_probabilities_of

POSITIONS, WIDTH, VOCABULARY, K = 11, 6, 50, 4


@pytest.fixture(autouse=True)
def pieces_of_four(monkeypatch):
    """Eleven positions are two whole pieces and a shorter one."""
    monkeypatch.setattr(log_probabilities, "_ROWS", 4)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_values_and_gradients_are_those_of_log_softmax(temperature):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(POSITIONS, WIDTH, generator=generator, requires_grad=True)
    head = torch.randn(VOCABULARY, WIDTH, generator=generator, requires_grad=True)
    tokens = torch.randint(VOCABULARY, (POSITIONS, K), generator=generator)
    tokens[:, 1] = tokens[:, 0]  # asked for twice: as the teacher's and as the text's own
    weight = torch.randn(POSITIONS, K, generator=generator)

    expected = ((hidden @ head.T) / temperature).log_softmax(-1).gather(-1, tokens)
    expected_gradients = torch.autograd.grad((expected * weight).sum(), (hidden, head))
    found = log_probabilities_of(tokens, hidden, head, temperature)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad((found * weight).sum(), (hidden, head)), expected_gradients)


def test_a_frozen_head_gets_no_gradient():
    hidden = torch.randn(POSITIONS, WIDTH, requires_grad=True)
    head = torch.randn(VOCABULARY, WIDTH)
    log_probabilities_of(torch.zeros(POSITIONS, 1, dtype=torch.long), hidden, head).sum().backward()
    assert head.grad is None and hidden.grad.abs().sum() > 0
