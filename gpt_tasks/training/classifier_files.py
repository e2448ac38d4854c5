"""A trained classifier -> the files of its task: head and adapter, with what dev says of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from gpt_tasks.backbone.architectures import family_of
from gpt_tasks.backbone.encoder_engine import length_batches
from gpt_tasks.backbone.weights import Model, fingerprint
from gpt_tasks.tasks.calibration import fit_temperature
from gpt_tasks.tasks.heads import LinearHead
from gpt_tasks.tasks.out_of_scope import OutOfScopeRule, fit_out_of_scope
from gpt_tasks.tasks.trained_task import OUT_OF_SCOPE, PARAMETERS_FILE, TaskSettings, write_head
from gpt_tasks.training.adapter_files import write_adapter
from gpt_tasks.training.batches import pad
from gpt_tasks.training.classification_data import TaskData, TaskRows, TaskTraining
from gpt_tasks.training.methods import Lora
from gpt_tasks.training.objectives import Classifier

_FEATURE_TOKENS = 4096


def save_classifier(
    folder: Path,
    model: Model,
    training: TaskTraining,
    classifier: Classifier,
    modules: dict[str, tuple[str, ...]],
    rows: TaskRows,
    data: TaskData,
) -> TaskSettings:
    """Calibrates on dev and writes adapter and head."""
    classifier.eval()
    query = classifier.pooling.query.detach().numpy() if training.pooling == "attention" else None
    head = LinearHead(
        training.pooling, classifier.head.weight.detach().numpy(), classifier.head.bias.detach().numpy(), query
    )
    truth = np.array([label for _, label in rows.dev])
    features = _features(classifier, [ids for ids, _ in rows.dev])
    logits = head.logits(features)
    rule = _rule(classifier, rows.train, logits, features, truth, data.labels)
    settings = TaskSettings(
        task=training.task,
        labels=data.labels,
        method=training.method,
        attention="causal" if training.causal else "full",
        pooling=training.pooling,
        temperature=fit_temperature(logits, truth),
        backbone={"name": model.name, "fingerprint": fingerprint(model.weights)},
        domains=data.domains,
        out_of_scope=None if rule is None else rule.settings(),
        dev={"accuracy": float((logits.argmax(axis=1) == truth).mean()), "texts": len(truth)},
    )
    write_head(folder, settings, head, rule)
    tuned = classifier.tuned
    if isinstance(tuned, Lora):
        transposed = family_of(model.hugging_face_config).transposed
        write_adapter(folder, tuned, modules, model.name, fan_in_fan_out=transposed)
    elif tuned.trained():
        parameters = {name: p.detach().contiguous() for name, p in tuned.trained().items()}
        (folder / PARAMETERS_FILE).write_bytes(save(parameters))
    return settings


def _rule(
    classifier: Classifier,
    train: Sequence[tuple[Sequence[int], int]],
    logits: np.ndarray,
    features: np.ndarray,
    truth: np.ndarray,
    labels: list[str],
) -> OutOfScopeRule | None:
    """Where the data has texts out of scope, in train and in dev."""
    if OUT_OF_SCOPE not in labels or not (truth == labels.index(OUT_OF_SCOPE)).any():
        return None
    return fit_out_of_scope(
        _features(classifier, [ids for ids, _ in train]),
        np.array([label for _, label in train]),
        logits,
        features,
        truth,
        labels.index(OUT_OF_SCOPE),
    )


def _features(classifier: Classifier, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """[rows, hidden]"""
    features = np.zeros((len(rows), classifier.head.in_features), np.float32)
    with torch.inference_mode():
        for batch in length_batches([len(ids) for ids in rows], _FEATURE_TOKENS):
            features[batch] = classifier.features(*pad([rows[index] for index in batch])).float().numpy()
    return features
