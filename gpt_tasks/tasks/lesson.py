"""What is learned from a few features a label: a linear model, and how well it does. Also a process of its own.

The model is linear discriminant analysis with one covariance, shrunk towards a multiple of the identity. With ten
examples for each of Banking77's labels and the features of `taught.FeatureReader` it reaches 74 % on dev, four to five
points more than logistic regression.

The page learns in a process (`learn_apart`): scikit-learn and matplotlib take 100 MB, which go back when it ends, and
a visitor who presses Stop ends it.
"""

import json
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt_tasks.tasks.calibration import fit_temperature

PICTURE_NAME = "confusion.svg"
_SHRINKAGE = 0.7
_SMALLEST = 1e-10  # of the largest: a direction with less is none, but rounding
_FOLDS = 5
_TASK, _RESULT = "task.npz", "learned.npz"
_LOOK_SECONDS = 0.1
_LONGEST_SHOWN = 40  # characters of a label in the picture
_TITLE_INCHES = 0.45  # left free at the top, where the page lays the picture's title over it


@dataclass(frozen=True)
class Learned:
    """logits = W (x - mean) / deviation + b, and how well that does in cross-validation."""

    mean: np.ndarray
    """[features]"""
    deviation: np.ndarray
    """[features]"""
    weight: np.ndarray
    """[labels, features]"""
    bias: np.ndarray
    """[labels]"""
    temperature: float = 1.0
    confusion: np.ndarray | None = None
    """[labels, labels] of counts: rows are the right labels, columns those given by a model that saw other examples"""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """[rows, features] -> [rows, labels]"""
        return (features - self.mean) / self.deviation @ self.weight.T + self.bias

    @property
    def accuracy(self) -> float:
        """Cross-validated."""
        return float(np.trace(self.confusion) / self.confusion.sum())


def learn(features: np.ndarray, truth: np.ndarray, labels: Sequence[str], picture: Path) -> Learned:
    """
    Args:
        features: [examples, features]
        truth: the labels' numbers, at least two examples each
        picture: gets the confusion matrix as an SVG
    """
    from sklearn.model_selection import StratifiedKFold  # 75 MB that only who teaches needs, as in `fit`

    folds = StratifiedKFold(min(_FOLDS, min(Counter(truth.tolist()).values())), shuffle=True, random_state=0)
    logits = np.zeros((len(truth), len(labels)))
    for train, held_out in folds.split(features, truth):
        logits[held_out] = fit(features[train], truth[train], len(labels)).logits(features[held_out])
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (truth, logits.argmax(axis=1)), 1)
    _draw(confusion, labels, picture)
    model = fit(features, truth, len(labels))
    scale = float(logits.std()) or 1.0  # 0 where all examples are one and the same text
    temperature = fit_temperature(logits / scale, truth) * scale
    return Learned(model.mean, model.deviation, model.weight, model.bias, temperature, confusion)


def fit(features: np.ndarray, truth: np.ndarray, labels: int) -> Learned:
    """Linear discriminant analysis with equal priors: W = Σ⁻¹ μ_k, b = -½ μ_k Σ⁻¹ μ_k (Hastie et al. 2009, 4.3), where
    Σ = (1 - λ) S + λ · tr(S)/p · I and S is the covariance within the labels.

    There are far more features p than examples n: Σ⁻¹ is applied through the principal directions of the n centered
    rows, which come from their n x n products; the p x p matrix is never made.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    x = scaler.transform(features).astype(np.float64)
    means = np.stack([x[truth == label].mean(axis=0) for label in range(labels)])  # [labels, p]
    centered = (x - means[truth]) / np.sqrt(len(x))
    ridge = _SHRINKAGE * max((centered**2).sum() / x.shape[1], 1e-6)
    squares, vectors = np.linalg.eigh(centered @ centered.T)  # [n], [n, n]
    kept = squares > _SMALLEST * squares.max()
    directions = (vectors[:, kept] / np.sqrt(squares[kept])).T @ centered  # [kept, p], of length 1
    variance = (1 - _SHRINKAGE) * squares[kept]
    # Outside of the directions Σ is ridge · I; along each of them it is variance + ridge.
    along = means @ directions.T  # [labels, kept]
    weight = (means + (along * (ridge / (variance + ridge) - 1)) @ directions) / ridge  # [labels, p]
    bias = -0.5 * (weight * means).sum(axis=1)
    return Learned(
        scaler.mean_.astype(np.float32),
        scaler.scale_.astype(np.float32),
        weight.astype(np.float32),
        bias.astype(np.float32),
    )


def _draw(confusion: np.ndarray, labels: Sequence[str], picture: Path) -> None:
    import matplotlib  # takes half a second to import
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    count = len(labels)
    names = [_shown(label) for label in labels]
    size = min(20.0, 3 + 0.45 * count + 0.08 * max(map(len, names)))  # inches
    figure = Figure(figsize=(size, size), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - _TITLE_INCHES / size))
    display = ConfusionMatrixDisplay(confusion, display_labels=names)
    display.plot(ax=figure.subplots(), cmap="Blues", colorbar=False, include_values=count <= 20)
    # Each label ends at the axis, however wide the font is that will show it.
    for label in display.ax_.get_xticklabels():
        label.set(rotation="vertical", rotation_mode="anchor", horizontalalignment="right", verticalalignment="center")
    # The labels stay text: whoever shows the picture has fonts for their script, which this machine may not have.
    # With a salt and without a date, the same lesson gives the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": PICTURE_NAME}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(picture, format="svg", metadata={"Date": None})


def _shown(label: str) -> str:
    """Short, and without the mathematics that matplotlib would see between two dollar signs."""
    return (label if len(label) <= _LONGEST_SHOWN else f"{label[:_LONGEST_SHOWN]}…").replace("$", r"\$")


def learn_apart(
    features: np.ndarray, truth: np.ndarray, labels: Sequence[str], picture: Path, stopped: Callable[[], bool]
) -> Learned | None:
    """As `learn`, in another process.

    Args:
        stopped: asked ten times a second; True ends the process

    Returns:
        None where it was stopped

    Raises:
        RuntimeError: the process failed; its own words are in the message.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / _TASK, features=features, truth=truth, labels=json.dumps(list(labels)))
        process = subprocess.Popen(
            [sys.executable, "-m", "gpt_tasks.tasks.lesson", str(folder), str(picture)],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        while True:
            try:
                _, complaint = process.communicate(timeout=_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if stopped():
                    process.kill()
                    process.communicate()
                    return None
        if process.returncode:
            raise RuntimeError(f"Learning ended with {process.returncode}: {complaint}")
        with np.load(folder / _RESULT) as result:
            arrays = dict(result)
        return Learned(**{**arrays, "temperature": float(arrays["temperature"])})


def _main(folder: Path, picture: Path) -> None:
    with np.load(folder / _TASK) as task:
        learned = learn(task["features"], task["truth"], json.loads(str(task["labels"])), picture)
    np.savez(folder / _RESULT, **vars(learned))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
