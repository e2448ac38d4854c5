"""The shipped classification tasks on one backbone, each loaded when it is first asked for."""

from threading import Lock

from gpt_tasks.backbone.backbone import Backbone
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.classification import TextClassifier
from gpt_tasks.tasks.trained_task import CLASSIFICATION, SHIPPED, shipped_task
from gpt_tasks.tasks.windows import WindowReader


class Classifiers:
    """Name -> classifier; many threads may ask."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._loaded: dict[str, TextClassifier] = {}

    def get(self, name: str, backbone: Backbone) -> TextClassifier:
        """
        Raises:
            UserError: no such task, or the backbone is another than it was trained on.
        """
        if name not in available():
            raise UserError(
                f"The task {name!r} is unknown; there are: {', '.join(available())}.", key="unknown_task", task=name
            )
        with self._lock:
            if name not in self._loaded:
                reader = WindowReader.of(backbone.artifact, backbone.tokenizer)
                task = shipped_task(name, backbone.artifact)
                self._loaded[name] = TextClassifier(backbone.encoder, reader, task)
            return self._loaded[name]


def available() -> list[str]:
    """The tasks that come with the project."""
    return [name for name in CLASSIFICATION if (SHIPPED / name).is_dir()]
