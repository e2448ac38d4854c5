"""How good a classifier is on labelled texts."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import f1_score, precision_recall_fscore_support

from gpt_tasks.errors import UserError
from gpt_tasks.tasks.calibration import expected_calibration_error
from gpt_tasks.tasks.classification import TextClassifier, require_texts
from gpt_tasks.tasks.taught import TaughtClassifier
from gpt_tasks.tasks.text_files import LabelledText


def evaluate_classifier(
    classifier: TextClassifier | TaughtClassifier,
    rows: Sequence[LabelledText],
    done: Callable[[int], None] = lambda count: None,
) -> dict:
    """accuracy, macro_f1, per_class (precision, recall, f1, texts), expected_calibration_error, texts_per_second;
    with an out-of-scope rule also in_scope_accuracy and out_of_scope_recall, and accuracy counts its decisions.

    Raises:
        UserError: a label that the task hasn't got.
    """
    task = classifier.task if isinstance(classifier, TextClassifier) else None
    labels = classifier.taught.labels if task is None else task.labels
    for row in rows:
        if row.label not in labels:
            raise UserError(
                f"Line {row.line} has the label {row.label!r}, which the task hasn't got. Its labels: "
                f"{', '.join(labels[:8])}{' ...' if len(labels) > 8 else ''}."
            )
    texts = [row.text for row in rows]
    require_texts(texts)
    begin = time.perf_counter()
    found = classifier.classify(texts, done)
    seconds = time.perf_counter() - begin

    truth = np.array([row.label for row in rows])
    given = np.array([result.label for result in found])
    right = truth == given
    present = sorted(set(truth))
    precision, recall, f1, counts = precision_recall_fscore_support(truth, given, labels=present, zero_division=0)
    figures = {
        "accuracy": float(right.mean()),
        "macro_f1": float(f1_score(truth, given, labels=present, average="macro", zero_division=0)),
        "expected_calibration_error": expected_calibration_error(
            np.array([result.confidence for result in found]), right
        ),
        "texts_per_second": len(rows) / seconds,
        "texts": len(rows),
    }
    rule = None if task is None else task.out_of_scope
    if rule is not None:
        outside = truth == labels[rule.label]
        figures["in_scope_accuracy"] = float(right[~outside].mean()) if (~outside).any() else None
        figures["out_of_scope_recall"] = float(right[outside].mean()) if outside.any() else None
    figures["per_class"] = {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "texts": int(n)}
        for label, p, r, f, n in zip(present, precision, recall, f1, counts, strict=True)
    }
    return figures
