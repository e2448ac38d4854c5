"""Runs an exported model with onnxruntime: token ids in, logits out. Needs numpy and onnxruntime only."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, get_ident

import numpy as np
import onnxruntime

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.threads import available_cores
from gpt_tasks.backbone.token_cache import TokenCache
from gpt_tasks.errors import UserError

PREFILL_CHUNK = 256
"""Tokens read at once. More at once take more memory and are slower: attention computes the whole square
of a piece, also where a token can't see (512 at once: 12 % slower than twice 256)."""
FIRST_LOGIT = "first_logit_position"
_ERRORS_ONLY = 3  # onnxruntime would warn that FIRST_LOGIT can be overridden, which is what it is for


def new_session(path: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """
    Args:
        threads: None takes the cores that this process may use

    Raises:
        UserError: onnxruntime can't load the graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Threads spin between two operators: 1.4 times faster decoding than sleeping, measured on 2 cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base but Exception
        raise UserError(f"onnxruntime can't load {path}: {error}. Export the model again.") from error


class OrtEngine:
    """One model in one precision, shared by all who write with it.

    What a caller has read lives in a `TokenCache` of theirs; the engine itself has no state, and
    its calls take turns: two texts at once advance token by token in alternation.

    Args:
        threads: None takes the cores that this process may use

    Raises:
        UserError: a precision that the folder hasn't got, or a graph that onnxruntime can't load.
    """

    def __init__(self, artifact: Artifact, precision: str, threads: int | None = None) -> None:
        self.config = artifact.config
        self.precision = precision
        path = artifact.graph_path(precision)
        self._session = new_session(path, threads)
        self._cache_names = [f"{layer}.{kind}" for layer in range(self.config.layers) for kind in ("key", "value")]
        self._all_positions = onnxruntime.OrtValue.ortvalue_from_numpy(np.array([0], np.int64))
        self._last_position = onnxruntime.OrtValue.ortvalue_from_numpy(np.array([-1], np.int64))
        self._turns = Turns()

    def new_cache(self) -> TokenCache:
        return TokenCache(self.config)

    def read(self, ids: Sequence[int], cache: TokenCache, all_logits: bool = False) -> np.ndarray:
        """Reads tokens after those in the cache, and adds them to it.

        A caller who wants to be able to stop, or to say how far it is, passes PREFILL_CHUNK tokens at a time.

        Args:
            ids: at least one token
            all_logits: logits after each of the tokens, not after the last alone

        Returns:
            float32 [tokens, vocabulary], or [1, vocabulary]: softmax of a row is p(next token).

        Raises:
            ValueError: more tokens than the context holds.
        """
        cache.reserve(len(cache.ids) + len(ids))
        step = len(ids) if all_logits else PREFILL_CHUNK
        for begin in range(0, len(ids), step):
            logits = self._read(ids[begin : begin + step], cache, all_logits)
        return logits

    def _read(self, ids: Sequence[int], cache: TokenCache, all_logits: bool) -> np.ndarray:
        if cache.binding is None:
            cache.binding = _Bound(self._session, self._cache_names, cache)
        bound, start = cache.binding, len(cache.ids)
        if len(ids) == 1 and not all_logits:
            bound.to_next_token(ids[0], start, self._last_position)
        else:
            bound.to_tokens(ids, start, all_logits, self._all_positions if all_logits else self._last_position)
        with self._turns.mine():
            self._session.run_with_iobinding(bound.binding)
        cache.ids += ids
        return bound.take_logits()


class _Bound:
    """The memory that a session's runs with one cache read and write.

    Past and present of every layer are the cache's buffers, bound once, and again only when those have moved:
    binding them all takes a tenth of a token's time. What decoding feeds in, token by token, stays bound too.
    """

    def __init__(self, session: onnxruntime.InferenceSession, cache_names: Sequence[str], cache: TokenCache) -> None:
        self.binding = session.io_binding()
        for name, array in zip(cache_names, cache.buffers, strict=True):
            _bind(self.binding.bind_input, f"past_key_values.{name}", array)
            _bind(self.binding.bind_output, f"present.{name}", array)
        self._vocabulary_size = cache.config.vocabulary_size
        self._token = np.zeros((1, 1), np.int64)
        self._position = np.zeros((1, 1), np.int64)
        self._mask = np.ones((1, cache.capacity), np.int64)
        self._next_logits = np.empty((1, 1, self._vocabulary_size), np.float32)
        self._logits: np.ndarray | None = None  # of the run to come
        self._inputs: tuple[np.ndarray, ...] = ()  # must live until the run is over: a binding keeps addresses only

    def to_next_token(self, token: int, position: int, first_logit: onnxruntime.OrtValue) -> None:
        self._token[0, 0], self._position[0, 0] = token, position
        _bind(self.binding.bind_input, "attention_mask", self._mask[:, : position + 1])
        if self._logits is not self._next_logits:
            self._bind(self._token, self._position, self._next_logits, first_logit)

    def to_tokens(self, ids: Sequence[int], start: int, all_logits: bool, first_logit: onnxruntime.OrtValue) -> None:
        end = start + len(ids)
        _bind(self.binding.bind_input, "attention_mask", self._mask[:, :end])
        logits = np.empty((1, len(ids) if all_logits else 1, self._vocabulary_size), np.float32)
        self._bind(np.array([ids], np.int64), np.arange(start, end, dtype=np.int64)[None], logits, first_logit)

    def take_logits(self) -> np.ndarray:
        """[tokens, vocabulary], the caller's own"""
        return self._logits[0].copy() if self._logits is self._next_logits else self._logits[0]

    def _bind(
        self, ids: np.ndarray, positions: np.ndarray, logits: np.ndarray, first_logit: onnxruntime.OrtValue
    ) -> None:
        self._inputs, self._logits = (ids, positions), logits
        _bind(self.binding.bind_input, "input_ids", ids)
        _bind(self.binding.bind_input, "position_ids", positions)
        _bind(self.binding.bind_output, "logits", logits)
        self.binding.bind_ortvalue_input(FIRST_LOGIT, first_logit)


def _bind(bind, name: str, array: np.ndarray) -> None:
    bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


class Turns:
    """A lock that is given in the order of asking. (Python's Lock lets one thread take it again and again.)"""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: deque[int] = deque()

    @contextmanager
    def mine(self) -> Iterator[None]:
        me = get_ident()
        with self._changed:
            self._waiting.append(me)
            self._changed.wait_for(lambda: self._waiting[0] == me)
        try:
            yield
        finally:
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()
