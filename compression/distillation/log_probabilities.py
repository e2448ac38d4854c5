"""Log-probabilities of a few tokens out of a large vocabulary, without the table of them all."""

import torch
from torch import Tensor

_ROWS = 256  # whose logits are worked on at once: more leave the processor's caches, fewer make small matrices


def log_probabilities_of(tokens: Tensor, hidden: Tensor, head: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(hidden · headᵀ / T) at some tokens of each position.

    A loss that asks for k of 49,152 tokens needs neither the other log-probabilities nor a gradient for each of them:
    the gradient of all logits, g_token - softmax · Σ g, is made a few rows at a time, as in cut cross-entropy
    (Wijmans et al. 2025).

    Args:
        tokens: int64 [positions, k]
        hidden: [positions, width]
        head: [vocabulary, width], of hidden's type, in which the products are computed

    Returns:
        fp32 [positions, k], differentiable by hidden and head
    """
    return _LogProbabilitiesOf.apply(tokens, hidden, head, temperature)


class _LogProbabilitiesOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tokens: Tensor, hidden: Tensor, head: Tensor, temperature: float) -> Tensor:
        logits = hidden.new_empty(len(hidden), len(head))
        log_total = torch.empty(len(hidden), 1)
        found = torch.empty(tokens.shape)
        for rows in _pieces(len(hidden)):
            torch.mm(hidden[rows], head.T, out=logits[rows])
            scaled = _copy(logits[rows]).div_(temperature)
            found[rows] = scaled.gather(-1, tokens[rows])
            largest = scaled.amax(dim=-1, keepdim=True)
            log_total[rows] = scaled.sub_(largest).exp_().sum(dim=-1, keepdim=True).log_().add_(largest)
        ctx.save_for_backward(tokens, hidden, head, logits, log_total)
        ctx.temperature = temperature
        return found.sub_(log_total)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[None, Tensor | None, Tensor | None, None]:
        tokens, hidden, head, logits, log_total = ctx.saved_tensors
        of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[1] else None
        of_head = torch.zeros(head.shape) if ctx.needs_input_grad[2] else None
        total = gradient.sum(dim=-1, keepdim=True)
        for rows in _pieces(len(hidden)):
            softmax = _copy(logits[rows]).div_(ctx.temperature).sub_(log_total[rows]).exp_()
            of_logits = softmax.mul_(-total[rows]).scatter_add_(-1, tokens[rows], gradient[rows])
            of_logits = of_logits.div_(ctx.temperature).to(head.dtype)
            if of_hidden is not None:
                torch.mm(of_logits, head, out=of_hidden[rows])
            if of_head is not None:
                of_head += of_logits.T @ hidden[rows]
        return None, of_hidden, None if of_head is None else of_head.to(head.dtype), None


def _copy(logits: Tensor) -> Tensor:
    """In fp32, to be changed in place."""
    return logits.to(torch.float32, copy=True)


def _pieces(rows: int) -> list[slice]:
    return [slice(begin, begin + _ROWS) for begin in range(0, rows, _ROWS)]
