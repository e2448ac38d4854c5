"""Distillation on text, as the trainer knows it."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compression.distillation.log_probabilities import log_probabilities_of
from compression.distillation.losses import (
    LikelyTokens,
    attention_divergence,
    hidden_divergence,
    prediction_divergence,
    value_relation,
)
from compression.distillation.teacher import TeacherPredictions
from gpt_tasks.training.arithmetic import training_dtype
from gpt_tasks.training.methods import Full, TunedDecoder
from gpt_tasks.transformer.decoder import Decoder


@dataclass(frozen=True)
class Matching:
    """What the student is to match, and how much each counts.

    Raises:
        ValueError: a number out of its range, named.
    """

    predictions: float = 0.9
    """of the teacher, by KL divergence"""
    text: float = 0.1
    """the tokens that really follow, by cross-entropy"""
    hidden: float = 0.0
    """hidden states, by direction (DistilBERT)"""
    attention: float = 0.0
    """the last layer's attention weights and value relations (MiniLM)"""
    temperature: float = 1.0
    top_k: int = 32
    """so many of the teacher's likeliest tokens are kept"""
    reverse: bool = False
    """the KL divergence the other way round"""

    def __post_init__(self) -> None:
        for name in ("predictions", "text", "hidden", "attention"):
            if getattr(self, name) < 0:
                raise ValueError(f"the weight of {name} must be at least 0, got {getattr(self, name)}")
        if self.predictions + self.text + self.hidden + self.attention <= 0:
            raise ValueError("at least one weight must be more than 0")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be more than 0, got {self.temperature}")
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")

    @property
    def looks_inside(self) -> bool:
        """The teacher runs along, since its hidden states or attention are matched."""
        return self.hidden > 0 or self.attention > 0


class TextDistillation:
    """A student that matches a teacher on windows of text.

    Args:
        train, dev: int64 [windows, length]
        predictions: the teacher's, on `train`
        teacher: where its inside is matched
    """

    figure = "perplexity"

    def __init__(
        self,
        tuned: TunedDecoder,
        train: Tensor,
        dev: Tensor,
        predictions: TeacherPredictions | None,
        matching: Matching,
        teacher: Decoder | None = None,
    ) -> None:
        self.tuned = tuned
        if isinstance(tuned, Full):
            tuned.decoder.head.requires_grad_(True)  # predictions are what is trained
        self.lengths = [train.shape[1]] * len(train)
        self._train, self._dev, self._predictions, self._matching = train, dev, predictions, matching
        self._inside = _Inside(tuned, teacher, matching) if matching.looks_inside else None
        self.model = tuned if self._inside is None else nn.ModuleList([tuned, self._inside.projections])

    @staticmethod
    def shown(score: float) -> float:
        return -score

    def loss(self, examples: Sequence[int]) -> Tensor:
        matching, ids = self._matching, self._train[list(examples)]
        inside = torch.zeros(())
        if self._inside is None:
            hidden = self._encode(ids)
        else:
            hidden, inside = self._inside.compare(ids, self._encode)
        likely = self._predictions.of(list(examples)) if matching.predictions else None
        student, following = self._log_probabilities(hidden, ids, likely)
        total = inside
        if matching.predictions:
            divergence = prediction_divergence(student, likely, matching.temperature, matching.reverse)
            total = total + matching.predictions * divergence
        if matching.text:
            total = total - matching.text * following.mean()
        return total

    def evaluate(self) -> dict[str, float]:
        """Perplexity on dev; the score is its negative"""
        losses = [self._surprise(ids[None]) for ids in self._dev]
        perplexity = math.exp(sum(losses) / len(losses))
        return {"score": -perplexity, "perplexity": perplexity}

    def _surprise(self, ids: Tensor) -> float:
        return -self._of(_following(ids), self._encode(ids)).unflatten(0, ids.shape)[:, :-1].mean().item()

    def _encode(self, ids: Tensor, **watched: list[Tensor]) -> Tensor:
        return self.tuned.encode(ids, torch.ones_like(ids), **watched)

    def _log_probabilities(
        self, hidden: Tensor, ids: Tensor, likely: LikelyTokens | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """The student's, of the teacher's likely tokens [batch · length, k] at the temperature, and of the tokens that
        really follow [batch, length - 1]; None of what isn't matched.

        The head's products take as long as several layers: one reading for both, where the temperatures are the same.
        """
        matching = self._matching
        if likely is not None and matching.text and matching.temperature == 1:
            both = self._of(torch.cat([likely.ids, _following(ids)], dim=-1), hidden)
            student, following = both[:, :-1], both[:, -1:]
        else:
            student = None if likely is None else self._of(likely.ids, hidden, matching.temperature)
            following = self._of(_following(ids), hidden) if matching.text else None
        return student, None if following is None else following.reshape(ids.shape)[:, :-1]

    def _of(self, tokens: Tensor, hidden: Tensor, temperature: float = 1.0) -> Tensor:
        """tokens: [batch · length, k]; hidden: [batch, length, hidden]"""
        dtype, weight = training_dtype(), self.tuned.decoder.head.weight
        return log_probabilities_of(tokens, hidden.flatten(0, 1).to(dtype), weight.to(dtype), temperature)


def _following(ids: Tensor) -> Tensor:
    """The token after each, [batch, length] -> [batch · length, 1]; after the last, whose follower isn't known, it is
    the first again."""
    return ids.roll(-1, dims=-1).reshape(-1, 1)


class _Inside:
    """Hidden states of student and teacher layer by layer, and the last layer's attention."""

    def __init__(self, tuned: TunedDecoder, teacher: Decoder, matching: Matching) -> None:
        self._student, self._teacher, self._matching = tuned.decoder, teacher, matching
        widths = tuned.decoder.config.hidden_size, teacher.config.hidden_size
        self.layers = layer_map(tuned.decoder.config.layers, teacher.config.layers)
        # A student of another width is compared through a learned projection (as in TinyBERT, Jiao et al. 2020).
        same = widths[0] == widths[1]
        self.projections = nn.ModuleList() if same else nn.ModuleList(nn.Linear(*widths) for _ in self.layers)

    def compare(self, ids: Tensor, encode: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        """The student's last hidden states, and how far its inside is from the teacher's."""
        ours, our_attention, our_value = _watched(self._student, lambda **lists: encode(ids, **lists))
        with torch.no_grad():
            theirs, their_attention, their_value = _watched(
                self._teacher, lambda **lists: self._teacher.encode(ids, **lists)
            )
        directions = []
        for index, (student_layer, teacher_layer) in enumerate(self.layers):
            mine = ours[1 + student_layer].float()
            if len(self.projections):
                mine = self.projections[index](mine)
            directions.append(hidden_divergence(mine, theirs[1 + teacher_layer]))
        inside = self._matching.hidden * torch.stack(directions).mean()
        if self._matching.attention:
            relations = attention_divergence(value_relation(our_value), value_relation(their_value))
            relations = relations + attention_divergence(our_attention, their_attention)
            inside = inside + self._matching.attention * relations
        return ours[0], inside


def _watched(decoder: Decoder, encode: Callable[..., Tensor]) -> tuple[list[Tensor], Tensor, Tensor]:
    """The last hidden states followed by every layer's output; the last layer's attention weights and its values
    [batch, key_value_heads, sequence, d]."""
    outputs: list[Tensor] = []
    attentions: list[Tensor] = []
    values: list[Tensor] = []
    with ExitStack() as hooks:
        module = decoder.blocks[-1].attention.value
        hook = module.register_forward_hook(lambda _, __, value: values.append(value))
        hooks.callback(hook.remove)
        last = encode(layer_outputs=outputs, attentions=attentions)
    heads = values[0].unflatten(-1, (-1, decoder.config.head_size)).transpose(1, 2)
    return [last, *outputs], attentions[-1], heads


def layer_map(student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """Which layer of the teacher each of the student's stands for: evenly spread, the last for the last."""
    return [(layer, round((layer + 1) * teacher_layers / student_layers) - 1) for layer in range(student_layers)]
