"""A classifier that a visitor teaches in seconds: features of the frozen backbone, a linear model on top (`lesson`).

The features are what four layers leave in the residual stream: the mean over the text's tokens, beside the last token
of a question that is put after the text. Answering it in one word, the model must sum the text up (Jiang et al. 2023,
"Scaling Sentence Embeddings with Large Language Models"). Causal attention gives both in one pass. With ten examples
for each of Banking77's labels the question brings 74 % on dev where means alone bring 72 %.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.encoder_engine import BATCH_TOKENS, EncoderEngine, length_batches
from gpt_tasks.backbone.encoder_interface import feature_layers
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.classification import CHUNK, Classified, require_texts
from gpt_tasks.tasks.heads import pool, softmax
from gpt_tasks.tasks.lesson import Learned
from gpt_tasks.tasks.text_files import LabelledText
from gpt_tasks.tasks.windows import WindowReader
from gpt_tasks.transformer.config import DecoderConfig

QUESTION = '\nThis message means in one word: "'
_TENSORS = ("mean", "deviation", "weight", "bias")


@dataclass(frozen=True)
class Taught:
    """A classifier and what it was made for."""

    labels: list[str]
    learned: Learned
    fingerprint: str
    """of the backbone"""


def features_width(config: DecoderConfig) -> int:
    """How many features a text has."""
    return 2 * len(feature_layers(config)) * config.hidden_size


@dataclass(frozen=True)
class ReadTexts:
    """What some texts gave."""

    features: np.ndarray
    """[texts, 2 · layers · hidden]; of a long text the mean over its windows"""
    tokens: list[int]
    """of each text, without the question"""
    windows: list[int]


class FeatureReader:
    """Texts -> features of the frozen backbone."""

    def __init__(self, engine: EncoderEngine, reader: WindowReader) -> None:
        self._engine, self._reader = engine, reader
        self._question = reader.tokens(QUESTION)

    def read(self, texts: Sequence[str], done: Callable[[int], None] = lambda count: None) -> np.ndarray:
        """The features of `ReadTexts`.

        Args:
            done: told how many texts are read, after every chunk
        """
        features = []
        for chunk in self.chunks(texts):
            features.append(chunk.features)
            done(sum(map(len, features)))
        return np.concatenate(features)

    def chunks(self, texts: Sequence[str], between: Callable[[], None] = lambda: None) -> Iterator[ReadTexts]:
        """Some texts at a time.

        Args:
            between: called after every batch of windows; may raise to stop
        """
        require_texts(texts)
        for begin in range(0, len(texts), CHUNK):
            yield self._read_chunk(texts[begin : begin + CHUNK], between)

    def _read_chunk(self, texts: Sequence[str], between: Callable[[], None]) -> ReadTexts:
        features = np.zeros((len(texts), features_width(self._engine.config)), np.float32)
        windows = [self._reader.read(text) for text in texts]
        owners = [(index, len(text.pieces)) for index, text in enumerate(windows) for _ in text.pieces]
        rows = [(*piece, *self._question) for text in windows for piece in text.pieces]
        for batch in length_batches([len(row) for row in rows], BATCH_TOKENS):
            layers, mask = self._engine.layers([rows[index] for index in batch])
            ends = mask.sum(axis=1) - len(self._question)  # [rows], of the text
            # The first token is the same in all texts, and its numbers are hundreds of times the others'.
            of_text = ((np.arange(mask.shape[1]) > 0) & (np.arange(mask.shape[1]) < ends[:, None])).astype(mask.dtype)
            of_text[ends == 1, 0] = 1  # a text without any other token
            pooled = [pool("mean", hidden, of_text) for hidden in layers]
            pooled += [pool("last", hidden, mask) for hidden in layers]
            for index, row in zip(batch, np.concatenate(pooled, axis=1), strict=True):
                owner, count = owners[index]
                features[owner] += row / count
            between()
        return ReadTexts(features, [text.tokens for text in windows], [len(text.pieces) for text in windows])


def numbered(rows: Sequence[LabelledText]) -> tuple[list[str], np.ndarray]:
    """The labels, sorted, and each row's number among them.

    Raises:
        UserError: see `require_teachable`.
    """
    require_teachable(rows)
    labels = sorted({row.label.strip() for row in rows})
    return labels, np.array([labels.index(row.label.strip()) for row in rows])


def require_teachable(rows: Sequence[LabelledText]) -> None:
    """
    Raises:
        UserError: one label only, a label with one example, an empty label.
    """
    counts = Counter((row.label or "").strip() for row in rows)
    if "" in counts:
        raise UserError("A label is empty. Give every label a name.", key="label_empty")
    if len(counts) < 2:
        raise UserError("Teaching needs at least two labels with two examples each.", key="teach_two_labels")
    lonely = [label for label, count in counts.items() if count < 2]
    if lonely:
        raise UserError(
            f"The label {lonely[0]!r} has one example only. Give every label at least two: one to learn from, one to "
            "check with.",
            key="teach_two_examples",
            label=lonely[0],
        )


class TaughtClassifier:
    """Classifies with what was taught. Has no state: many may classify at once."""

    def __init__(self, reader: FeatureReader, taught: Taught) -> None:
        self._reader, self.taught = reader, taught

    def classify(self, texts: Sequence[str], done: Callable[[int], None] = lambda count: None) -> list[Classified]:
        """See `TextClassifier.classify`."""
        taught, results = self.taught, []
        for read in self._reader.chunks(texts):
            logits = taught.learned.logits(read.features) / taught.learned.temperature
            results += [
                Classified(taught.labels[int(row.argmax())], taught.labels, row, False, tokens, windows)
                for row, tokens, windows in zip(
                    softmax(logits).astype(np.float32), read.tokens, read.windows, strict=True
                )
            ]
            done(len(results))
        return results


def to_bytes(taught: Taught) -> bytes:
    """A safetensors file, without pickle: tensors, and the rest as JSON in its metadata with a hash over all."""
    tensors = {name: getattr(taught.learned, name) for name in _TENSORS}
    settings = json.dumps(
        {
            "labels": taught.labels,
            "temperature": taught.learned.temperature,
            "fingerprint": taught.fingerprint,
            "confusion": taught.learned.confusion.tolist(),
        }
    )
    return save(tensors, {"classifier": settings, "sha256": _hash(settings, tensors)})


def from_file(path: Path, artifact: Artifact) -> Taught:
    """
    Raises:
        UserError: not such a file, edited, or made for another backbone.
    """
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        settings, digest = metadata["classifier"], metadata["sha256"]
    except (SafetensorError, OSError, KeyError) as error:
        raise _damaged(path, error) from error
    if digest != _hash(settings, tensors):
        raise UserError(
            f"{path.name} was changed after it was made. Take the file as it was downloaded.",
            key="taught_edited",
            file=path.name,
        )
    try:
        taught = _checked(json.loads(settings), tensors)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from error
    if taught.fingerprint != artifact.fingerprint:
        raise UserError(
            f"{path.name} was made with another model than this one. Teach it again here.",
            key="taught_other_backbone",
            file=path.name,
        )
    if taught.learned.mean.size != features_width(artifact.config):
        raise _damaged(path, f"{taught.learned.mean.size} features")
    return taught


def _checked(facts: dict, tensors: Mapping[str, np.ndarray]) -> Taught:
    """The hash is no secret: whoever writes a file by hand can write one that fits.

    Raises:
        ValueError, KeyError, TypeError: what is there isn't a classifier.
    """
    labels, temperature = facts["labels"], facts["temperature"]
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise ValueError("labels must be a list of at least two strings")
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise ValueError("temperature must be a number above 0")
    count, features = len(labels), tensors["mean"].size
    confusion = np.array(facts["confusion"])
    shapes = {"mean": (features,), "deviation": (features,), "weight": (count, features), "bias": (count,)}
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(f"{name} must be finite float32 numbers of the shape {shape}")
    if confusion.shape != (count, count) or confusion.dtype.kind != "i" or confusion.sum() <= 0:
        raise ValueError(f"confusion must be counts of the shape {(count, count)}")
    return Taught(labels, Learned(**tensors, temperature=temperature, confusion=confusion), facts["fingerprint"])


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(
        f"{path.name} is not a taught classifier, or it is damaged ({reason}).", key="taught_damaged", file=path.name
    )


def _hash(settings: str, tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(settings.encode())
    for name in _TENSORS:
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()
