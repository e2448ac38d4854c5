"""Writes on after a prompt, token by token, as a stream of events that can be stopped at any one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from gpt_tasks.backbone.ort_engine import PREFILL_CHUNK, OrtEngine
from gpt_tasks.backbone.sampling import Sampler, SamplingOptions
from gpt_tasks.backbone.token_cache import TokenCache
from gpt_tasks.backbone.tokenizer import Tokenizer

StopReason = Literal["end_of_text", "length", "stop_string", "context_full"]


@dataclass(frozen=True)
class Reading:
    """The prompt is being read: so many of its tokens are done."""

    done: int
    total: int


@dataclass(frozen=True)
class Piece:
    """New text, never half a character. Joined, the pieces are the whole text."""

    text: str
    new_tokens: int
    """tokens generated so far"""


@dataclass(frozen=True)
class Generated:
    """The last event: everything about the text that was written."""

    text: str
    prompt_tokens: int
    reused_tokens: int
    """how many of the prompt's tokens were in the cache already"""
    new_tokens: int
    time_to_first_token_ms: float
    tokens_per_second: float
    """after the first token; 0 where there was only one"""
    stop_reason: StopReason


Event = Reading | Piece | Generated


def generate(
    engine: OrtEngine,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    cache: TokenCache,
    sampling: SamplingOptions,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    end_ids: frozenset[int] = frozenset(),
) -> Iterator[Event]:
    """
    Nothing is computed between two events: who stops iterating has stopped the computation. The
    cache holds what was read up to then, and is good for the next call.

    Args:
        prompt: at least one token, fewer than the context holds
        cache: tokens read before; those that the prompt begins with are not read again
        stop: strings that end the text; they are not part of it
        end_ids: tokens that end the text

    Raises:
        ValueError: a prompt that is empty, or leaves no room in the context.
    """
    if not 0 < len(prompt) < engine.config.context_length:
        raise ValueError(f"a prompt of {len(prompt)} tokens for a context of {engine.config.context_length}")
    start = perf_counter()
    reused = cache.keep_common_beginning(prompt)
    yield Reading(reused, len(prompt))
    for begin in range(reused, len(prompt), PREFILL_CHUNK):
        logits = engine.read(prompt[begin : begin + PREFILL_CHUNK], cache)
        if begin + PREFILL_CHUNK < len(prompt):
            yield Reading(begin + PREFILL_CHUNK, len(prompt))

    sampler, decoder, until = Sampler(sampling), tokenizer.stream_decoder(), StopStrings(stop)
    most = min(max_new_tokens, engine.config.context_length - len(prompt))
    new_tokens, text, stop_reason = 0, "", "length" if most == max_new_tokens else "context_full"
    first_token_at = last_token_at = start
    while True:
        token = sampler.choose(logits[-1], cache.ids)
        last_token_at = perf_counter()
        if new_tokens == 0:
            first_token_at = last_token_at
        new_tokens += 1
        if token in end_ids:
            stop_reason = "end_of_text"
            break
        piece = until.push(decoder.push(token))
        text += piece
        yield Piece(piece, new_tokens)
        if until.met:
            stop_reason = "stop_string"
            break
        if new_tokens == most:
            break
        logits = engine.read([token], cache)

    if not until.met:
        rest = until.push(decoder.finish()) + until.finish()
        if rest:
            text += rest
            yield Piece(rest, new_tokens)
    seconds = last_token_at - first_token_at
    yield Generated(
        text,
        len(prompt),
        reused,
        new_tokens,
        round(1000 * (first_token_at - start), 1),
        round((new_tokens - 1) / seconds, 1) if new_tokens > 1 else 0.0,
        stop_reason,
    )


class StopStrings:
    """Lets text through until a stop string, which may arrive in pieces: its possible beginning is held back."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = [string for string in strings if string]
        self._held = ""
        self.met = False

    def push(self, text: str) -> str:
        """What can be shown of the text so far; after a stop string was met, nothing."""
        if self.met:
            return ""
        self._held += text
        found = [at for string in self._strings if (at := self._held.find(string)) >= 0]
        if found:
            self.met = True
            return self._held[: min(found)]
        keep = max((self._overlap(string) for string in self._strings), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return "" if self.met else held

    def _overlap(self, string: str) -> int:
        """How much of the end of the held text could be the string's beginning."""
        return next(
            (n for n in range(min(len(string) - 1, len(self._held)), 0, -1) if self._held.endswith(string[:n])), 0
        )
