"""Measures engines against each other: each in a process of its own, in turns, the best of several rounds.

    decode_tokens_per_second    greedy tokens after a prompt of 64
    prefill_tokens_per_second   a prompt of 512, logits of its last position only (where the engine can)
    time_to_first_token_ms      a prompt of 64, nothing cached
    load_seconds                from nothing (its imports included) to ready
    peak_memory_mb              the process's largest resident size, in 10^6 bytes
    size_mb                     the model's files, in 10^6 bytes

The prompts are seeded random tokens: no engine's speed depends on which tokens they are.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from compression.peers import open_engine

PROMPT, LONG_PROMPT, NEW_TOKENS = 64, 512, 64
_REPEATS = 3  # within a process, after one run that isn't counted


@dataclass(frozen=True)
class Contestant:
    """Which engine to measure; everything a child process needs to know."""

    engine: str
    """ours, transformers, optimum or llama.cpp"""
    precision: str
    path: str
    """of the artifact, checkpoint folder, exported folder or GGUF file"""
    threads: int


@dataclass(frozen=True)
class Row:
    engine: str
    precision: str
    decode_tokens_per_second: float
    prefill_tokens_per_second: float
    time_to_first_token_ms: float
    load_seconds: float
    peak_memory_mb: float
    size_mb: float
    peer: str | None = None
    """what it is held against, where that was measured too: llama.cpp in about as many bits, or optimum"""
    decode_ratio: float | None = None
    """to the peer's decode_tokens_per_second"""
    prefill_ratio: float | None = None


_PEERS = {"fp32": ("optimum", "fp32"), "int8": ("llama.cpp", "Q8_0"), "int4": ("llama.cpp", "Q4_1")}
"""the beginning of a precision's name -> engine and precision"""


def compare(
    contestants: Sequence[Contestant], rounds: int, began: Callable[[Contestant, int], None] = lambda *_: None
) -> list[Row]:
    """A row for each contestant, in the order of `in_order`. They take turns, so that a slow minute of the machine
    hits them alike; those that are held against each other come one after the other.

    Raises:
        RuntimeError: a contestant that failed, with what it said.
    """
    contestants = in_order(contestants)
    rows = measure_in_turns("compression.benchmark", contestants, rounds, began)
    return _with_ratios([_best([Row(**row) for row in measured]) for measured in rows])


def in_order(contestants: Sequence[Contestant]) -> list[Contestant]:
    """As `compare` returns their rows: those that are held against each other beside each other."""
    return sorted(contestants, key=lambda contestant: _group(contestant.engine, contestant.precision))


def _group(engine: str, precision: str) -> int:
    """Those with the same number are compared, and measured together."""
    for number, (beginning, peer) in enumerate(_PEERS.items()):
        if (engine, precision) == peer or (engine == "ours" and precision.startswith(beginning)):
            return number
    return len(_PEERS)


def _with_ratios(rows: Sequence[Row]) -> list[Row]:
    measured = {(row.engine, row.precision): row for row in rows}
    compared = []
    for row in rows:
        beginning = next((name for name in _PEERS if row.precision.startswith(name)), None)
        peer = measured.get(_PEERS[beginning]) if row.engine == "ours" and beginning else None
        if peer is not None:
            row = replace(
                row,
                peer=f"{peer.engine} {peer.precision}",
                decode_ratio=round(row.decode_tokens_per_second / peer.decode_tokens_per_second, 2),
                prefill_ratio=round(row.prefill_tokens_per_second / peer.prefill_tokens_per_second, 2),
            )
        compared.append(row)
    return compared


def _best(rows: Sequence[Row]) -> Row:
    def over(name: str, best: Callable) -> float:
        return best(getattr(row, name) for row in rows)

    return Row(
        rows[0].engine,
        rows[0].precision,
        over("decode_tokens_per_second", max),
        over("prefill_tokens_per_second", max),
        over("time_to_first_token_ms", min),
        over("load_seconds", min),
        over("peak_memory_mb", min),
        rows[0].size_mb,
    )


def measure_in_turns(module: str, contestants: Sequence, rounds: int, began: Callable[..., None]) -> list[list[dict]]:
    """Of each contestant (a dataclass), what `python -m module CONTESTANT` prints in each round.

    Raises:
        RuntimeError: a contestant that failed, with what it said.
    """
    rows: list[list[dict]] = [[] for _ in contestants]
    for round_ in range(rounds):
        for contestant, measured in zip(contestants, rows, strict=True):
            began(contestant, round_)
            measured.append(_measure_in_child(module, asdict(contestant)))
    return rows


def _measure_in_child(module: str, contestant: dict) -> dict:
    """Runs `python -m module CONTESTANT`, which prints a row.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(contestant)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        name = f"{contestant['engine']} {contestant['precision']}"
        raise RuntimeError(f"{name} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().split("\n")[-1])


def measure(contestant: Contestant) -> Row:
    """In this process, which should have done nothing else before."""
    start = perf_counter()
    engine = open_engine(**asdict(contestant))
    load_seconds = perf_counter() - start
    random = np.random.default_rng(0)
    short, long = (random.integers(20, engine.vocabulary_size, length).tolist() for length in (PROMPT, LONG_PROMPT))

    def seconds(work: Callable[[], object]) -> Iterator[float]:
        work()
        for _ in range(_REPEATS):
            begin = perf_counter()
            work()
            yield perf_counter() - begin

    def decode() -> float:
        token = engine.start(short)
        begin = perf_counter()
        for _ in range(NEW_TOKENS):
            token = engine.step(token)
        return perf_counter() - begin

    first = min(seconds(lambda: engine.start(short)))
    prefill = min(seconds(lambda: engine.start(long)))
    decoding = min(decode() for _ in range(_REPEATS))
    return Row(
        contestant.engine,
        contestant.precision,
        round(NEW_TOKENS / decoding, 1),
        round(LONG_PROMPT / prefill, 1),
        round(1000 * first, 1),
        round(load_seconds, 2),
        peak_memory_mb(),
        round(engine.size_mb, 1),
    )


def seconds_of(work: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = perf_counter()
    work()
    return perf_counter() - begin


def peak_memory_mb() -> float:
    """From /proc: getrusage's figure would include what the parent held when it started this process."""
    kibibytes = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    return round(kibibytes * 1024 / 10**6, 1)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure(Contestant(**json.loads(sys.argv[1]))))) + "\n")
