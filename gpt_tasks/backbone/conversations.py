"""Keeps the KV caches of conversations between their turns, within a budget of bytes."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from threading import Lock

from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.token_cache import TokenCache


class Conversations:
    """Lends a conversation's cache to whoever continues it; when space is short, the one not used for longest goes.

    A conversation whose cache has gone is read again from its text: slower, never wrong.

    Args:
        idle_bytes: for the caches that nobody is using just now; the running ones come on top
    """

    def __init__(self, engine: OrtEngine, idle_bytes: int = 128 * 10**6) -> None:
        self._engine = engine
        self._idle_bytes = idle_bytes
        self._idle: OrderedDict[Hashable, TokenCache] = OrderedDict()  # least recently used first
        self._lock = Lock()

    @contextmanager
    def borrow(self, conversation: Hashable) -> Iterator[TokenCache]:
        """The conversation's cache, for the time of the block; an empty one where there is none, or it is lent."""
        with self._lock:
            cache = self._idle.pop(conversation, None)
        cache = cache or self._engine.new_cache()
        try:
            yield cache
        finally:
            with self._lock:
                self._idle[conversation] = cache
                self._idle.move_to_end(conversation)
                while self.idle_bytes > self._idle_bytes:
                    self._idle.popitem(last=False)

    def forget(self, conversation: Hashable) -> None:
        with self._lock:
            self._idle.pop(conversation, None)

    @property
    def idle_bytes(self) -> int:
        return sum(cache.nbytes for cache in self._idle.values())
