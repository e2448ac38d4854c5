"""A classifier that a visitor teaches in seconds: features of the frozen backbone, a linear model on top.

The features are what four layers leave in the residual stream, standardized: the mean over the text's tokens, beside
the last token of a question that is put after the text. Answering it in one word, the model must sum the text up
(Jiang et al. 2023, "Scaling Sentence Embeddings with Large Language Models"). Causal attention gives both in one pass.
The model is linear discriminant analysis with one covariance, shrunk towards a multiple of the identity. With ten
examples for each of Banking77's labels, logistic regression on means reaches 68 % on dev, this analysis 72 %, with the
question 74 %.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.encoder_engine import BATCH_TOKENS, EncoderEngine, length_batches
from gpt_tasks.backbone.encoder_interface import feature_layers
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.calibration import fit_temperature
from gpt_tasks.tasks.classification import CHUNK, Classified, require_texts
from gpt_tasks.tasks.heads import pool, softmax
from gpt_tasks.tasks.text_files import LabelledText
from gpt_tasks.tasks.windows import WindowReader

QUESTION = '\nThis message means in one word: "'
_SHRINKAGE = 0.7
_FOLDS = 5
_TENSORS = ("mean", "deviation", "weight", "bias")


@dataclass(frozen=True)
class LinearModel:
    """logits = W (x - mean) / deviation + b"""

    mean: np.ndarray
    """[features]"""
    deviation: np.ndarray
    """[features]"""
    weight: np.ndarray
    """[labels, features]"""
    bias: np.ndarray
    """[labels]"""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """[rows, features] -> [rows, labels]"""
        return (features - self.mean) / self.deviation @ self.weight.T + self.bias


@dataclass(frozen=True)
class Lesson:
    """How well it was learned, by cross-validation: each example judged by a model that hasn't seen it."""

    accuracy: float
    confusion: np.ndarray
    """[labels, labels] of counts: rows are the right labels, columns those given"""


@dataclass(frozen=True)
class Taught:
    """A classifier and what it was made for."""

    labels: list[str]
    model: LinearModel
    temperature: float
    fingerprint: str
    """of the backbone"""
    lesson: Lesson


class FeatureReader:
    """Texts -> features of the frozen backbone."""

    def __init__(self, engine: EncoderEngine, reader: WindowReader) -> None:
        self._engine, self._reader = engine, reader
        self._question = reader.tokens(QUESTION)

    def read(self, texts: Sequence[str], done: Callable[[int], None] = lambda count: None) -> np.ndarray:
        """[texts, 2 · layers · hidden]; of a long text the mean over its windows.

        Args:
            done: told how many texts are read, after every chunk; may raise to stop
        """
        require_texts(texts)
        width = 2 * len(feature_layers(self._engine.config)) * self._engine.config.hidden_size
        features = np.zeros((len(texts), width), np.float32)
        for begin in range(0, len(texts), CHUNK):
            self._read_chunk(texts[begin : begin + CHUNK], features[begin : begin + CHUNK])
            done(min(begin + CHUNK, len(texts)))
        return features

    def _read_chunk(self, texts: Sequence[str], features: np.ndarray) -> None:
        windows = [self._reader.read(text).pieces for text in texts]
        owners = [(index, len(pieces)) for index, pieces in enumerate(windows) for _ in pieces]
        rows = [(*piece, *self._question) for pieces in windows for piece in pieces]
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


def teach(
    reader: FeatureReader,
    rows: Sequence[LabelledText],
    fingerprint: str,
    done: Callable[[int], None] = lambda count: None,
) -> Taught:
    """
    Args:
        fingerprint: of the backbone that `reader` reads with

    Raises:
        UserError: one label only, a label with one example, an empty text or label.
    """
    from sklearn.model_selection import StratifiedKFold  # 75 MB that only who teaches needs, as in `fit`

    require_teachable(rows)
    labels = sorted({row.label.strip() for row in rows})
    truth = np.array([labels.index(row.label.strip()) for row in rows])
    features = reader.read([row.text for row in rows], done)
    folds = StratifiedKFold(min(_FOLDS, min(Counter(truth).values())), shuffle=True, random_state=0)
    logits = np.zeros((len(rows), len(labels)))
    for train, held_out in folds.split(features, truth):
        logits[held_out] = fit(features[train], truth[train], len(labels)).logits(features[held_out])
    given = logits.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (truth, given), 1)
    return Taught(
        labels,
        fit(features, truth, len(labels)),
        fit_temperature(logits / logits.std(), truth) * float(logits.std()),
        fingerprint,
        Lesson(float((given == truth).mean()), confusion),
    )


def require_teachable(rows: Sequence[LabelledText]) -> None:
    """
    Raises:
        UserError: see `teach`.
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


def fit(features: np.ndarray, truth: np.ndarray, labels: int) -> LinearModel:
    """Linear discriminant analysis with equal priors: W = Σ⁻¹ μ_k, b = -½ μ_k Σ⁻¹ μ_k (Hastie et al. 2009, 4.3), where
    Σ = (1 - λ) S + λ · tr(S)/p · I and S is the covariance within the labels.

    There are far more features p than examples n: Σ⁻¹ is applied through the singular vectors of the n centered
    rows, and the p x p matrix is never made.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    x = scaler.transform(features).astype(np.float64)
    means = np.stack([x[truth == label].mean(axis=0) for label in range(labels)])  # [labels, p]
    centered = (x - means[truth]) / np.sqrt(len(x))
    ridge = _SHRINKAGE * max((centered**2).sum() / x.shape[1], 1e-6)
    _, singular, directions = np.linalg.svd(centered, full_matrices=False)  # directions: [n, p]
    variance = (1 - _SHRINKAGE) * singular**2
    # Outside of the directions Σ is ridge · I; along each of them it is variance + ridge.
    along = means @ directions.T  # [labels, n]
    weight = (means + (along * (ridge / (variance + ridge) - 1)) @ directions) / ridge  # [labels, p]
    bias = -0.5 * (weight * means).sum(axis=1)
    return LinearModel(
        scaler.mean_.astype(np.float32),
        scaler.scale_.astype(np.float32),
        weight.astype(np.float32),
        bias.astype(np.float32),
    )


class TaughtClassifier:
    """Classifies with what was taught. Has no state: many may classify at once."""

    def __init__(self, reader: FeatureReader, taught: Taught) -> None:
        self._reader, self.taught = reader, taught

    def classify(self, texts: Sequence[str], done: Callable[[int], None] = lambda count: None) -> list[Classified]:
        """See `TextClassifier.classify`; windows and tokens aren't counted here."""
        logits = self.taught.model.logits(self._reader.read(texts, done))
        results = []
        for row in softmax(logits / self.taught.temperature):
            probabilities = dict(zip(self.taught.labels, map(float, row), strict=True))
            results.append(Classified(self.taught.labels[int(row.argmax())], probabilities, False, 0, 1))
        return results


def to_bytes(taught: Taught) -> bytes:
    """A safetensors file, without pickle: tensors, and the rest as JSON in its metadata with a hash over all."""
    tensors = {name: getattr(taught.model, name) for name in _TENSORS}
    settings = json.dumps(
        {
            "labels": taught.labels,
            "temperature": taught.temperature,
            "fingerprint": taught.fingerprint,
            "accuracy": taught.lesson.accuracy,
            "confusion": taught.lesson.confusion.tolist(),
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
        raise UserError(
            f"{path.name} is not a taught classifier, or it is damaged ({error}).", key="taught_damaged", file=path.name
        ) from error
    if digest != _hash(settings, tensors):
        raise UserError(
            f"{path.name} was changed after it was made. Take the file as it was downloaded.",
            key="taught_edited",
            file=path.name,
        )
    facts = json.loads(settings)
    if facts["fingerprint"] != artifact.fingerprint:
        raise UserError(
            f"{path.name} was made with another model than this one. Teach it again here.",
            key="taught_other_backbone",
            file=path.name,
        )
    lesson = Lesson(facts["accuracy"], np.array(facts["confusion"]))
    return Taught(facts["labels"], LinearModel(**tensors), facts["temperature"], facts["fingerprint"], lesson)


def _hash(settings: str, tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(settings.encode())
    for name in _TENSORS:
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def draw_confusion(taught: Taught, picture: Path) -> None:
    """The confusion matrix as a PNG: rows are the right labels."""
    from matplotlib.figure import Figure  # takes half a second to import
    from sklearn.metrics import ConfusionMatrixDisplay

    count = len(taught.labels)
    size = min(20.0, 3 + 0.45 * count)
    figure = Figure(figsize=(size, size), layout="constrained")
    display = ConfusionMatrixDisplay(taught.lesson.confusion, display_labels=taught.labels)
    display.plot(
        ax=figure.subplots(), cmap="Blues", colorbar=False, xticks_rotation="vertical", include_values=count <= 20
    )
    figure.savefig(picture, dpi=100)
