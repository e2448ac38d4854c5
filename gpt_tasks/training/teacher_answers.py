"""A task's answers on a larger model, kept on disk so that it reads the texts once, whatever the students try."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpt_tasks.home import whole_folder, writable_home
from gpt_tasks.progress import Progress, Report, silent
from gpt_tasks.tasks.classification import TextClassifier

_CHUNK = 256  # texts that it reads before it is told how far it is
_LOGITS_FILE, _FEATURES_FILE = "logits.npy", "features.npy"


@dataclass(frozen=True)
class TeacherAnswers:
    """What a classifier makes of texts."""

    logits: np.ndarray
    """float32 [texts, labels of the teacher]"""
    features: np.ndarray
    """what its head reads, float16 [texts, hidden size of the teacher]"""


def teacher_answers(teacher: TextClassifier, texts: Sequence[str], report: Report = silent) -> TeacherAnswers:
    """From the cache folder, or computed and kept there. A teacher is known again by its answers to the first texts:
    another head, adapter, model or precision gives others.

    Raises:
        UserError: a cache that can't be written.
    """
    answers = _answers(teacher, texts)
    first = next(answers)
    key = hashlib.sha256(first.logits.tobytes() + first.features.tobytes())
    for text in texts:
        key.update(hashlib.sha256(text.encode()).digest())
    folder = writable_home() / "teachers" / f"answers-{key.hexdigest()[:24]}"
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        found = [first]
        for chunk in answers:
            found.append(chunk)
            report(Progress("teaching", sum(len(answer.logits) for answer in found), len(texts), "texts"))
        with whole_folder(folder) as part:
            np.save(part / _LOGITS_FILE, np.concatenate([answer.logits for answer in found]))
            np.save(part / _FEATURES_FILE, np.concatenate([answer.features for answer in found]))
    return TeacherAnswers(np.load(folder / _LOGITS_FILE), np.load(folder / _FEATURES_FILE))


def _answers(teacher: TextClassifier, texts: Sequence[str]) -> Iterator[TeacherAnswers]:
    for begin in range(0, len(texts), _CHUNK):
        scored = teacher.score(texts[begin : begin + _CHUNK])
        yield TeacherAnswers(
            np.array([one.logits for one in scored], np.float32),
            np.array([one.features for one in scored], np.float16),
        )
