"""A task's answers on a larger model, kept on disk so that it reads the texts once, whatever the students try."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from gpt_tasks.home import whole_folder, writable_home
from gpt_tasks.progress import Progress, Report, silent
from gpt_tasks.tasks.classification import TextClassifier

_CHUNK = 256  # texts that it reads before it is told how far it is
_FILE = "logits.npy"


def teacher_answers(teacher: TextClassifier, texts: Sequence[str], report: Report = silent) -> np.ndarray:
    """From the cache folder, or computed and kept there. A teacher is known again by its answers to the first texts:
    another head, adapter, model or precision gives others.

    Returns:
        logits, float32 [texts, labels of the teacher]

    Raises:
        UserError: a cache that can't be written.
    """
    answers = _answers(teacher, texts)
    first = next(answers)
    key = hashlib.sha256(first.tobytes())
    for text in texts:
        key.update(hashlib.sha256(text.encode()).digest())
    folder = writable_home() / "teachers" / f"answers-{key.hexdigest()[:24]}"
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        found = [first]
        for chunk in answers:
            found.append(chunk)
            report(Progress("teaching", sum(map(len, found)), len(texts), "texts"))
        with whole_folder(folder) as part:
            np.save(part / _FILE, np.concatenate(found))
    return np.load(folder / _FILE)


def _answers(teacher: TextClassifier, texts: Sequence[str]) -> Iterator[np.ndarray]:
    for begin in range(0, len(texts), _CHUNK):
        scored = teacher.score(texts[begin : begin + _CHUNK])
        yield np.array([one.logits for one in scored], np.float32)
