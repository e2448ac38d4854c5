"""The shared GPT, loaded: what the tasks, the page and the command line hold on to."""

import os
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from threading import Lock, Thread

from gpt_tasks.backbone.artifact import Artifact, preferred_precision
from gpt_tasks.backbone.conversations import Conversations
from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.backbone.generate import Event, generate
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.prepare import prepare
from gpt_tasks.backbone.sampling import SamplingOptions
from gpt_tasks.errors import UserError
from gpt_tasks.progress import Progress, Report, silent

MODEL_VARIABLE = "GPT_TASKS_MODEL"


class Backbone:
    """One model with its tokenizer and everyone's caches.

    Args:
        precision: None takes int8, or the best that the folder has

    Raises:
        UserError: a folder that isn't an artifact, or lacks the precision.
    """

    def __init__(self, artifact: Artifact, precision: str | None = None) -> None:
        precision = precision or preferred_precision(artifact.precisions)
        self.artifact = artifact
        self.tokenizer = artifact.load_tokenizer()
        self.engine = OrtEngine(artifact, precision)
        self.conversations = Conversations(self.engine)
        self._encoder: EncoderEngine | None = None
        self._encoder_lock = Lock()

    @property
    def encoder(self) -> EncoderEngine:
        """The encoding graph in the same precision, loaded when it is first asked for."""
        with self._encoder_lock:
            if self._encoder is None:
                self._encoder = EncoderEngine(self.artifact, self.engine.precision)
            return self._encoder

    @property
    def context_length(self) -> int:
        return self.engine.config.context_length

    def write(
        self,
        prompt: Sequence[int],
        sampling: SamplingOptions,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        conversation: Hashable = None,
    ) -> Iterator[Event]:
        """`generate` with the conversation's cache, which is lent while the iterator lives.

        Args:
            conversation: names the cache to go on with; None: a cache for this text only
        """
        if conversation is None:
            yield from self._generate(prompt, sampling, max_new_tokens, stop, self.engine.new_cache())
        else:
            with self.conversations.borrow(conversation) as cache:
                yield from self._generate(prompt, sampling, max_new_tokens, stop, cache)

    def _generate(self, prompt, sampling, max_new_tokens, stop, cache) -> Iterator[Event]:
        return generate(
            self.engine, self.tokenizer, prompt, cache, sampling, max_new_tokens, stop, self.artifact.end_ids
        )


def named_artifact() -> Artifact | None:
    """The folder that $GPT_TASKS_MODEL names, where it names one.

    Raises:
        UserError: it is no artifact.
    """
    folder = os.environ.get(MODEL_VARIABLE)
    return Artifact(Path(folder).expanduser()) if folder else None


def load_backbone(folder: str | None = None, precision: str | None = None, report: Report = silent) -> Backbone:
    """The model of a folder, of $GPT_TASKS_MODEL, or the default one, which is prepared if need be."""
    artifact = (Artifact(Path(folder).expanduser()) if folder else named_artifact()) or prepare(report)
    report(Progress("loading", detail=artifact.report["model"]))
    return Backbone(artifact, precision)


class BackboneInBackground:
    """Loads the backbone in a thread, so that a page can open before it is there.

    Args:
        report: is told the progress too
    """

    def __init__(self, report: Report = silent) -> None:
        self._report_too = report
        self._lock = Lock()
        self._thread: Thread | None = None
        self.progress = Progress("loading")
        self.error: UserError | None = None
        self.backbone: Backbone | None = None

    def start(self) -> None:
        """Begins, or begins again after an error. Does nothing while it is at work, or when it is done."""
        with self._lock:
            if self.backbone is not None or (self._thread is not None and self._thread.is_alive()):
                return
            self.error, self.progress = None, Progress("loading")
            self._thread = Thread(target=self._load, name="load-backbone", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        self._thread.join()

    def get(self) -> Backbone:
        """
        Raises:
            UserError: it isn't ready, or could not be made ready.
        """
        if self.error is not None:
            raise self.error
        if self.backbone is None:
            raise UserError(
                "The model is still being prepared. The bar at the top shows how far it is.", key="not_ready"
            )
        return self.backbone

    def _load(self) -> None:
        try:
            self.backbone = load_backbone(report=self._report)
        except UserError as error:
            self.error = error
        except BaseException as error:
            self.error = UserError(
                f"The model could not be loaded: {error!r}. The server's log says more.",
                key="load_failed",
                reason=repr(error),
            )
            raise  # the thread's excepthook prints the traceback to the log

    def _report(self, progress: Progress) -> None:
        self.progress = progress
        self._report_too(progress)
