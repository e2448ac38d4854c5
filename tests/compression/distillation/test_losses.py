"""Losses against torch's own and hand-computed values."""

import math

import pytest
import torch
from torch.nn import functional

from compression.distillation.losses import (
    attention_divergence,
    hidden_divergence,
    likely_tokens,
    prediction_divergence,
    value_relation,
)

LOGITS = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0)) * 3
STUDENT, TEACHER = LOGITS


def divergence(student, teacher, k, temperature=1.0, reverse=False):
    """Of logits, [positions, vocabulary] each"""
    likely = likely_tokens(teacher, k, temperature)
    of_likely = (student / temperature).log_softmax(-1).gather(-1, likely.ids)
    return prediction_divergence(of_likely, likely, temperature, reverse)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("reverse", [False, True])
def test_with_the_whole_vocabulary_it_is_the_kl_divergence(temperature, reverse):
    p, q = ((logits / temperature).log_softmax(-1) for logits in (TEACHER, STUDENT))
    if reverse:
        p, q = q, p
    expected = temperature**2 * functional.kl_div(q, p, reduction="batchmean", log_target=True)
    assert torch.allclose(divergence(STUDENT, TEACHER, 40, temperature, reverse), expected, atol=1e-4)


def test_tokens_that_are_left_out_count_as_one():
    p, q = TEACHER.softmax(-1), STUDENT.softmax(-1)
    kept = p.topk(3).indices
    p, q = (torch.cat([x.gather(-1, kept), 1 - x.gather(-1, kept).sum(-1, keepdim=True)], -1) for x in (p, q))
    expected = (p * (p / q).log()).sum(-1).mean()
    assert torch.allclose(divergence(STUDENT, TEACHER, 3), expected, atol=1e-4)


def test_it_vanishes_where_the_student_agrees_and_is_never_more_than_the_whole():
    assert divergence(TEACHER, TEACHER, 3).abs() < 1e-5
    assert divergence(STUDENT, TEACHER, 3) <= divergence(STUDENT, TEACHER, 40)


def test_gradient_is_that_of_the_divergence():
    student = STUDENT.clone().requires_grad_()
    divergence(student, TEACHER, 40).backward()
    expected = (STUDENT.softmax(-1) - TEACHER.softmax(-1)) / len(STUDENT)  # of KL(p ‖ softmax(z)) in z
    assert torch.allclose(student.grad, expected, atol=1e-4)


def test_hidden_divergence():
    ahead, aside, back = torch.tensor([[2.0, 0]]), torch.tensor([[0, 5.0]]), torch.tensor([[-1.0, 0]])
    assert [hidden_divergence(ahead, other).item() for other in (ahead, aside, back)] == [0, 1, 2]


def test_attention_divergence():
    teacher, student = torch.tensor([[[[0.5, 0.5]]]]), torch.tensor([[[[0.25, 0.75]]]])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert attention_divergence(student, teacher).item() == pytest.approx(expected)


def test_value_relation():
    relation = value_relation(torch.tensor([[[[2.0, 0], [0, 2.0]]]]))
    own = math.exp(4 / math.sqrt(2)) / (1 + math.exp(4 / math.sqrt(2)))
    assert torch.allclose(relation, torch.tensor([[[[1, 0], [1 - own, own]]]]))
