"""Classifies texts with a trained task on the encoding engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.heads import softmax
from gpt_tasks.tasks.text_files import MOST_CHARACTERS, require_length
from gpt_tasks.tasks.trained_task import TrainedTask
from gpt_tasks.tasks.windows import WindowReader

CHUNK = 512
"""Texts that are tokenized and sorted together: bounds the memory."""


@dataclass(frozen=True)
class Classified:
    """What a text was found to be."""

    label: str
    """the best label; the out-of-scope one where none fits"""
    labels: Sequence[str]
    """all there are; one list for all texts: tens of thousands of results are held at once"""
    scores: np.ndarray
    """[labels], float32: calibrated probabilities; the sum is 1"""
    out_of_scope: bool
    tokens: int
    windows: int
    """more than 1: the text was too long to be read at once, and the pieces' results were averaged"""
    cut: bool = False
    """the end of the text was not read: it is longer than is read"""

    @property
    def probabilities(self) -> dict[str, float]:
        """Of every label."""
        return dict(zip(self.labels, map(float, self.scores), strict=True))

    @property
    def confidence(self) -> float:
        """Of the label that was chosen."""
        return float(self.scores[self.labels.index(self.label)])


@dataclass(frozen=True)
class Scored:
    """One text's numbers before they become probabilities."""

    logits: np.ndarray
    """[labels]"""
    features: np.ndarray
    """[hidden]"""
    tokens: int
    windows: int


class TextClassifier:
    """A task on the shared encoder. Has no state: many may classify at once."""

    def __init__(self, engine: EncoderEngine, reader: WindowReader, task: TrainedTask) -> None:
        self._engine, self._reader, self.task = engine, reader, task

    @property
    def hidden_size(self) -> int:
        """Numbers that the head reads."""
        return self._engine.config.hidden_size

    def classify(
        self,
        texts: Sequence[str],
        done: Callable[[int], None] = lambda count: None,
        between: Callable[[], None] = lambda: None,
    ) -> list[Classified]:
        """
        Args:
            done: told how many texts are classified, after every chunk; may raise to stop
            between: called after every batch of windows, of which a long text has many; may raise to stop

        Raises:
            UserError: a text that is empty or too long.
        """
        require_texts(texts)
        results: list[Classified] = []
        for begin in range(0, len(texts), CHUNK):
            results += map(self._result, self.score(texts[begin : begin + CHUNK], between))
            done(len(results))
        return results

    def score(self, texts: Sequence[str], between: Callable[[], None] = lambda: None) -> list[Scored]:
        """A long text's logits and features are means over its windows, which all count the same.

        Args:
            between: see `classify`
        """
        windows = [self._reader.read(text) for text in texts]
        owners = [index for index, text in enumerate(windows) for _ in text.pieces]
        pieces = [piece for text in windows for piece in text.pieces]
        features = np.zeros((len(texts), self.hidden_size), np.float32)
        for batch, hidden, mask in self._engine.encode_all(pieces, self.task.adapter):
            pooled = self.task.head.features(hidden, mask)  # [batch, hidden]
            for row, piece in enumerate(batch):
                owner = owners[piece]
                features[owner] += pooled[row] / len(windows[owner].pieces)
            between()
        logits = self.task.head.logits(features)  # [texts, labels]; the head is linear: the mean of the windows' too
        return [
            Scored(logits[index], features[index], text.tokens, len(text.pieces)) for index, text in enumerate(windows)
        ]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """[..., labels] -> calibrated, the same"""
        return softmax(logits / self.task.settings.temperature)

    def _result(self, scored: Scored) -> Classified:
        labels, rule = self.task.labels, self.task.out_of_scope
        probabilities = self.probabilities(scored.logits)
        outside = rule is not None and rule.scores(scored.logits[None], scored.features[None])[0] >= rule.threshold
        order = np.argsort(-scored.logits)
        if rule is None:
            best = order[0]
        else:
            best = rule.label if outside else next(index for index in order if index != rule.label)
        return Classified(
            labels[best],
            labels,
            probabilities.astype(np.float32),
            bool(outside),
            scored.tokens,
            scored.windows,
        )


def require_texts(texts: Sequence[str], most: int = MOST_CHARACTERS) -> None:
    """
    Args:
        most: characters of each

    Raises:
        UserError: no text, or one that is empty, too long, or no text at all.
    """
    if not texts:
        raise UserError("There is no text. Write one.", key="text_missing")
    for number, text in enumerate(texts, 1):
        where = "The text" if len(texts) == 1 else f"Text {number}"
        if not isinstance(text, str):
            raise UserError(f"{where} is not a string.")
        if not text.strip():
            raise UserError(
                f"{where} is empty. Write something in it, or leave it out.", key="text_empty", number=number
            )
        require_length(text, most, where)
