"""What a student is taught to match: the teacher's predictions, hidden states and attention. Pure functions."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_CLOSEST_TO_ONE = 1 - 1e-6  # of a sum of probabilities, so that what is left has a logarithm


@dataclass(frozen=True)
class LikelyTokens:
    """A teacher's predictions as far as they are kept: its likeliest tokens, at some temperature."""

    ids: Tensor
    """int64 [positions, k]"""
    log_probabilities: Tensor
    """[positions, k], of softmax over the whole vocabulary"""


def likely_tokens(logits: Tensor, k: int, temperature: float = 1.0) -> LikelyTokens:
    """logits: [positions, vocabulary]"""
    log_probabilities, ids = (logits.float() / temperature).log_softmax(dim=-1).topk(min(k, logits.shape[-1]))
    return LikelyTokens(ids, log_probabilities)


def prediction_divergence(
    student: Tensor, teacher: LikelyTokens, temperature: float = 1.0, reverse: bool = False
) -> Tensor:
    """T² · KL(p ‖ q) of the teacher's p and the student's q, as a mean over positions (Hinton et al. 2015).

    All tokens that the teacher's k leave out count as one outcome. With k the whole vocabulary this is the divergence
    itself; with fewer it can only be smaller, and still vanishes when the student agrees.

    Args:
        student: log-probabilities of the teacher's tokens, at the same temperature as the teacher's, [positions, k]
        reverse: KL(q ‖ p), which punishes a student for saying what the teacher would not (Gu et al. 2024)
    """
    p, q = (  # [positions, k + 1]
        torch.cat([kept, _rest(kept)], dim=-1) for kept in (teacher.log_probabilities.float(), student)
    )
    if reverse:
        p, q = q, p
    return temperature**2 * (p.exp() * (p - q)).sum(dim=-1).mean()


def _rest(kept: Tensor) -> Tensor:
    """log(1 - Σ exp): [positions, k] -> [positions, 1]"""
    total = kept.exp().sum(dim=-1, keepdim=True)
    return torch.log1p(-total.clamp(max=_CLOSEST_TO_ONE))


def hidden_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos, as a mean over tokens (DistilBERT, Sanh et al. 2019): [..., hidden] each

    The direction is what the layers above read: norms follow the residual stream's growing length.
    """
    return (1 - functional.cosine_similarity(student.float(), teacher.float(), dim=-1)).mean()


def attention_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) of attention weights, as a mean over heads and queries (MiniLM, Wang et al. 2020).

    Args:
        student, teacher: [batch, heads, queries, keys], rows sum to 1
    """
    p, q = teacher.float(), student.float()
    return functional.kl_div(q.clamp(min=1e-9).log(), p, reduction="none").sum(dim=-1).mean()


def value_relation(value: Tensor) -> Tensor:
    """softmax(V Vᵀ / √d): which tokens' values are alike, a token seeing those before it only (MiniLM, equation 9).

    Args:
        value: [batch, heads, sequence, d]

    Returns:
        [batch, heads, sequence, sequence]
    """
    scores = value.float() @ value.float().transpose(-2, -1) / math.sqrt(value.shape[-1])
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=value.device).tril()
    return scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
