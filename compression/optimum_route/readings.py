"""What a model makes of some texts, reduced to what its kind of check compares; the same for PyTorch and ONNX."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from compression.optimum_route.tasks import Task
from gpt_tasks.errors import UserError

_LONGEST = 256  # tokens of a text that are read
_GREEDY_TOKENS = 24
_GREEDY_TEXTS = 4
_MASK_EVERY = 7  # tokens; about the 15 % of masked language modelling
_RESERVED = 2  # positions
_SHORTEST_TEXT = 8  # tokens; windows of less say little


@dataclass(frozen=True)
class Reading:
    """As much of it as the task's kind has."""

    top: np.ndarray
    """[positions], the likeliest tokens or labels"""
    surprise: np.ndarray | None = None
    """causal: [positions], -log p of the token that follows"""
    vectors: np.ndarray | None = None
    """features, masked: [positions, hidden]"""
    probabilities: np.ndarray | None = None
    """classifier: [positions, labels]"""
    written: list[list[int]] = field(default_factory=list)
    """greedy continuations, which are written with the cache"""


@dataclass(frozen=True)
class Figures:
    values: dict[str, float]
    loss: float
    """the part of quality that is lost: what a budget limits"""


class Readings:
    """Reads the same texts with one model after the other.

    Args:
        tokenizer: of transformers
        config: of the model, as transformers reads it
    """

    def __init__(self, task: Task, tokenizer, config, texts: Sequence[str]) -> None:
        self._task, self._tokenizer = task, tokenizer
        self._one_label = getattr(config, "problem_type", None) != "multi_label_classification"
        # The RoBERTa family counts positions from the padding's id on, which is 1: so many fewer tokens fit.
        positions = (getattr(config, "max_position_embeddings", None) or _LONGEST + _RESERVED) - _RESERVED
        longest = max(2, min(_LONGEST, positions))
        self._inputs = [self._encode(text, longest) for text in texts]
        if task.kind == "causal":
            self._inputs = [one for one in self._inputs if one["input_ids"].shape[1] >= _SHORTEST_TEXT]
        if not self._inputs:
            raise UserError("The texts to check with are empty, or too short to say anything. Give longer ones.")
        if task.kind == "masked":
            self._inputs = [self._masked(one) for one in self._inputs]
        largest, size = max(int(one["input_ids"].max()) for one in self._inputs), getattr(config, "vocab_size", None)
        if size is not None and largest >= size:
            raise UserError(
                f"The tokenizer gives the token {largest}, but the model has {size} tokens: it is another model's. Put "
                "the tokenizer's files of this model beside its weights."
            )
        self._targets: list[torch.Tensor] | None = None  # what the decoder is fed: what the first model writes

    def _encode(self, text: str, longest: int) -> Mapping[str, torch.Tensor]:
        read = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=longest)
        if self._task.kind in ("causal", "sequence_to_sequence"):
            read.pop("token_type_ids", None)  # some tokenizers give them, and models that write take none
        return read

    def _masked(self, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        mask = self._tokenizer.mask_token_id
        if mask is None:
            raise UserError("The tokenizer has no mask token, so this masked language model can't be checked.")
        ids = inputs["input_ids"].clone()
        ids[:, 1::_MASK_EVERY] = mask
        return {**inputs, "input_ids": ids}

    @torch.inference_mode()
    def of(self, model) -> Reading:
        """
        Args:
            model: of transformers, or of optimum.onnxruntime
        """
        read = {
            "causal": self._causal,
            "masked": self._masked_tokens,
            "classifier": self._classes,
            "sequence_to_sequence": self._translated,
            "features": self._features,
        }
        return read[self._task.kind](model)

    def _causal(self, model) -> Reading:
        top, surprise = [], []
        for inputs in self._inputs:
            scores = model(**inputs).logits[0].float().log_softmax(dim=-1)  # [length, vocabulary]
            following = inputs["input_ids"][0, 1:]
            surprise.append(-scores[:-1].gather(1, following[:, None])[:, 0])
            top.append(scores.argmax(dim=-1))
        return Reading(_joined(top), _joined(surprise), written=self._write(model))

    def _masked_tokens(self, model) -> Reading:
        mask, top, states = self._tokenizer.mask_token_id, [], []
        for inputs in self._inputs:
            found = model(**inputs)
            top.append(found.logits[0].argmax(dim=-1)[inputs["input_ids"][0] == mask])
            if getattr(found, "states", None) is not None:
                states.append(found.states[0])
        return Reading(_joined(top), vectors=_joined(states) if states else None)

    def _classes(self, model) -> Reading:
        found = []
        for inputs in self._inputs:
            logits = model(**inputs).logits.float().flatten(0, -2)  # [1 or tokens, labels]
            found.append(logits.softmax(dim=-1) if self._one_label else logits.sigmoid())
        probabilities = _joined(found)
        return Reading(probabilities.argmax(axis=-1), probabilities=probabilities)

    def _translated(self, model) -> Reading:
        written = self._write(model)
        if self._targets is None:
            self._targets = [torch.tensor([ids]) for ids in self._write(model, texts=len(self._inputs))]
        top = [
            model(**inputs, decoder_input_ids=target).logits[0].argmax(dim=-1)
            for inputs, target in zip(self._inputs, self._targets, strict=True)
        ]
        return Reading(_joined(top), written=written)

    def _features(self, model) -> Reading:
        vectors = _joined([model(**inputs).last_hidden_state[0].float() for inputs in self._inputs])
        return Reading(np.arange(len(vectors)), vectors=vectors)

    def _write(self, model, texts: int = _GREEDY_TEXTS) -> list[list[int]]:
        return [
            model.generate(
                **self._without(inputs), max_new_tokens=_GREEDY_TOKENS, do_sample=False, num_beams=1, pad_token_id=0
            )[0].tolist()
            for inputs in self._inputs[:texts]
        ]

    def _without(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A causal model goes on from a text's beginning, so that there is room to write."""
        if self._task.kind != "causal":
            return dict(inputs)
        return {name: tensor[:, : tensor.shape[1] // 2] for name, tensor in inputs.items()}

    def compare(self, expected: Reading, actual: Reading) -> Figures:
        """
        Returns:
            causal: perplexity, reference_perplexity, ratio, top1_agreement, greedy_agreement;
            masked: masked_top1_agreement and, between two graphs, hidden_cosine of what the head reads;
            classifier: label_agreement, largest_probability_difference;
            sequence to sequence: teacher_forced_top1, greedy_agreement; features: cosine
        """
        agreement = float((expected.top == actual.top).mean())
        written = _same_beginning(expected.written, actual.written)
        match self._task.kind:
            case "causal":
                ours, theirs = (math.exp(float(one.surprise.mean())) for one in (actual, expected))
                values = {
                    "perplexity": ours,
                    "reference_perplexity": theirs,
                    "ratio": ours / theirs,
                    "top1_agreement": agreement,
                    "greedy_agreement": written,
                }
                return Figures(values, ours / theirs - 1)
            case "masked":
                values = {"masked_top1_agreement": agreement}
                if expected.vectors is not None and actual.vectors is not None:
                    values["hidden_cosine"] = float(mean_cosine(expected.vectors, actual.vectors))
                return Figures(values, 1 - agreement)
            case "classifier":
                difference = float(np.abs(expected.probabilities - actual.probabilities).max())
                values = {"label_agreement": agreement, "largest_probability_difference": difference}
                return Figures(values, 1 - agreement)
            case "sequence_to_sequence":
                return Figures({"teacher_forced_top1": agreement, "greedy_agreement": written}, 1 - agreement)
        cosine = float(mean_cosine(expected.vectors, actual.vectors))
        return Figures({"cosine": cosine}, 1 - cosine)


def mean_cosine(expected: np.ndarray, actual: np.ndarray) -> np.floating:
    """[positions, hidden] each"""
    lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(actual, axis=-1)
    return ((expected * actual).sum(axis=-1) / np.maximum(lengths, 1e-12)).mean()


def _joined(tensors: Sequence[torch.Tensor]) -> np.ndarray:
    return torch.cat(list(tensors)).numpy()


def _same_beginning(expected: list[list[int]], actual: list[list[int]]) -> float:
    """How much of the texts is the same up to the first difference, as the mean over the texts."""
    shares = []
    for one, other in zip(expected, actual, strict=True):
        same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        shares.append(same / max(len(one), len(other)))
    return sum(shares) / len(shares) if shares else math.nan
