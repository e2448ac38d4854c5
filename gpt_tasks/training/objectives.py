"""What a training makes better: the interface that the trainer knows, one class a kind of task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpt_tasks.backbone.encoder_engine import length_batches
from gpt_tasks.training.batches import pad
from gpt_tasks.training.methods import TunedDecoder
from gpt_tasks.training.pooling import Pooling, PoolingName


class Objective(Protocol):
    """A model with its examples.

    `model` holds every parameter that is trained; `lengths` are the training examples' in tokens.
    """

    model: nn.Module
    lengths: Sequence[int]
    figure: str
    """what `shown` gives"""

    def loss(self, examples: Sequence[int]) -> Tensor:
        """The mean loss of some training examples, by their numbers: a scalar with a gradient."""

    def evaluate(self) -> dict[str, float]:
        """Figures on dev; `score` is what training makes as large as it can."""

    def shown(self, score: float) -> float:
        """The score as people read it."""


def percent(score: float) -> float:
    return 100 * score


class Classifier(nn.Module):
    """A tuned decoder, a pooling and a linear head.

    logits = W · dropout(pool(h_1 ... h_n)) + b
    """

    def __init__(self, tuned: TunedDecoder, pooling: PoolingName, labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        hidden_size = tuned.decoder.config.hidden_size
        self.tuned = tuned
        self.pooling = Pooling(pooling, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, labels)

    def features(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """[batch, hidden] in fp32"""
        return self.pooling(self.tuned.encode(input_ids, mask).float(), mask)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """[batch, sequence] of ids, and of 0 and 1 -> logits [batch, labels]"""
        return self.classify(self.features(input_ids, mask))

    def classify(self, features: Tensor) -> Tensor:
        """[batch, hidden] -> logits [batch, labels]"""
        return self.head(self.dropout(features)).float()


@dataclass(frozen=True)
class TaskTeacher:
    """What another classifier makes of the training texts."""

    logits: Tensor
    """[examples, labels]"""
    weight: float
    """of the teacher's answer in the loss; what is left is the label's"""
    temperature: float
    features: Tensor
    """what its head reads, as long as what the student's reads: [examples, hidden]"""
    features_weight: float = 0.0

    def answer_loss(self, logits: Tensor, examples: Sequence[int]) -> Tensor:
        """T² · KL(softmax(teacher / T) ‖ softmax(student / T)) (Hinton et al. 2015); logits: [batch, labels]"""
        theirs = (self.logits[list(examples)] / self.temperature).log_softmax(dim=-1)
        ours = (logits / self.temperature).log_softmax(dim=-1)
        return self.temperature**2 * functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)

    def feature_loss(self, features: Tensor, examples: Sequence[int]) -> Tensor:
        """‖s / ‖s‖ - t / ‖t‖‖², the mean over the texts (Sun et al. 2019, patient knowledge distillation, of the
        vectors that the heads read); features: [batch, hidden]"""
        theirs = functional.normalize(self.features[list(examples)].float(), dim=-1)
        ours = functional.normalize(features, dim=-1)
        return (ours - theirs).square().sum(dim=-1).mean()


class Classification:
    """Cross-entropy of a text's label.

    Args:
        train, dev: token ids and the label's number, each
        label_smoothing: the part of the probability that is spread over all labels
        balanced: every label counts the same, however many examples it has: log p(label) in train is added to the
            logits while training, so that they needn't learn it (logit adjustment, Menon et al. 2021)
        teacher: a larger model's answers, which the student learns too
    """

    figure = "accuracy (%)"
    shown = staticmethod(percent)

    def __init__(
        self,
        model: Classifier,
        train: Sequence[tuple[Sequence[int], int]],
        dev: Sequence[tuple[Sequence[int], int]],
        label_smoothing: float = 0.0,
        balanced: bool = False,
        teacher: TaskTeacher | None = None,
    ) -> None:
        self.model = model
        self._teacher = teacher
        self._train, self._dev = train, dev
        self._smoothing = label_smoothing
        self.lengths = [len(ids) for ids, _ in train]
        counts = torch.bincount(torch.tensor([label for _, label in train]), minlength=model.head.out_features)
        self._offsets = (counts / len(train)).log() if balanced else torch.zeros(len(counts))  # [labels]

    def loss(self, examples: Sequence[int]) -> Tensor:
        ids, mask = pad(self.texts(examples))
        return self.loss_after(self.model.tuned.encode(ids, mask), mask, examples)

    def texts(self, examples: Sequence[int]) -> list[Sequence[int]]:
        """The token ids of some training examples."""
        return [self._train[index][0] for index in examples]

    def loss_after(self, hidden: Tensor, mask: Tensor, examples: Sequence[int]) -> Tensor:
        """`loss`, of examples that are read: hidden [batch, sequence, hidden], mask [batch, sequence] of 0 and 1"""
        features = self.model.pooling(hidden.float(), mask)  # [batch, hidden]
        logits = self.model.classify(features)  # [batch, labels]
        labels = torch.tensor([self._train[index][1] for index in examples])
        loss = functional.cross_entropy(logits + self._offsets, labels, label_smoothing=self._smoothing)
        if self._teacher is None:
            return loss
        teacher = self._teacher
        loss = (1 - teacher.weight) * loss + teacher.weight * teacher.answer_loss(logits, examples)
        if teacher.features_weight:
            loss = loss + teacher.features_weight * teacher.feature_loss(features, examples)
        return loss

    def evaluate(self) -> dict[str, float]:
        """accuracy and mean loss on dev; the score is the accuracy"""
        right = loss = 0.0
        for batch in length_batches([len(ids) for ids, _ in self._dev], tokens=4096):
            rows = [self._dev[index] for index in batch]
            logits = self.model(*pad([ids for ids, _ in rows]))  # [batch, labels]
            labels = torch.tensor([label for _, label in rows])
            loss += functional.cross_entropy(logits, labels, reduction="sum").item()
            right += (logits.argmax(dim=1) == labels).sum().item()
        accuracy = right / len(self._dev)
        # Of two equal accuracies the smaller loss is better: a small part of the score.
        mean_loss = loss / len(self._dev)
        return {"score": accuracy - 1e-4 * mean_loss, "accuracy": accuracy, "loss": mean_loss}


class JointClassification:
    """Several classifications on one tuned decoder: each batch has texts of all of them, and is read once.

    Args:
        parts: by their names; their models share `tuned`
    """

    figure = "accuracy (%), the tasks' mean"
    shown = staticmethod(percent)

    def __init__(self, parts: Mapping[str, Classification]) -> None:
        self.model = nn.ModuleList(part.model for part in parts.values())
        self.lengths = [length for part in parts.values() for length in part.lengths]
        self._parts = parts
        self._owners = [(name, index) for name, part in parts.items() for index in range(len(part.lengths))]

    def loss(self, examples: Sequence[int]) -> Tensor:
        own: dict[str, list[int]] = {name: [] for name in self._parts}
        for example in examples:
            name, index = self._owners[example]
            own[name].append(index)
        ids, mask = pad([text for name, indices in own.items() for text in self._parts[name].texts(indices)])
        hidden = self.model[0].tuned.encode(ids, mask)  # [batch, sequence, hidden]
        total, begin = torch.zeros(()), 0
        for name, indices in own.items():
            if not indices:
                continue
            rows = slice(begin, begin + len(indices))
            loss = self._parts[name].loss_after(hidden[rows], mask[rows], indices)
            total = total + loss * (len(indices) / len(examples))
            begin = rows.stop
        return total

    def evaluate(self) -> dict[str, float]:
        """Each task's accuracy; the score is the mean of theirs"""
        figures = {name: part.evaluate() for name, part in self._parts.items()}
        score = sum(found["score"] for found in figures.values()) / len(figures)
        return {"score": score, **{f"{name}_accuracy": found["accuracy"] for name, found in figures.items()}}
