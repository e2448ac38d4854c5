"""Measures engines that classify against each other, as `benchmark` does those that write, with an adapter active.

sentence_ms            one sentence of 20 tokens, to its label
sentences_per_second   1,000 sentences as long as CLINC150's, in batches of like length; each engine's best
                       of several batch sizes
load_seconds, peak_memory_mb, size_mb   as in `benchmark`
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from safetensors.numpy import load_file

from compression.benchmark import measure_in_turns, peak_memory_mb, seconds_of
from compression.encoder_peers import Encoder, open_encoder
from gpt_tasks.backbone.encoder_engine import length_batches
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.tasks.heads import LinearHead
from gpt_tasks.tasks.trained_task import HEAD_FILE, SETTINGS_FILE

SENTENCE_TOKENS, SENTENCES = 20, 1000
_LENGTHS = (5, 6, 7, 8, 9, 10, 11, 12, 14, 18)
"""tokens of CLINC150's sentences, at the middle of every tenth"""
_BATCH_TOKENS = (128, 512, 2048)
_TRIED = 200  # sentences with which the batch size is chosen
_REPEATS = 20
_VOCABULARY = 1000  # ids from 20 up to here, which every vocabulary has


@dataclass(frozen=True)
class Contestant:
    """Which engine to measure; everything a child process needs to know."""

    engine: str
    """ours, transformers or optimum"""
    precision: str
    path: str
    """of the artifact, checkpoint or exported folder"""
    task: str
    """the folder with adapter and head"""
    threads: int


@dataclass(frozen=True)
class Row:
    engine: str
    precision: str
    sentence_ms: float
    sentences_per_second: float
    batch_tokens: int
    """of the best batches"""
    load_seconds: float
    peak_memory_mb: float
    size_mb: float
    ratios: dict[str, tuple[float, float]] | None = None
    """peer -> how many times faster than it: a sentence, many sentences"""


def compare(
    contestants: Sequence[Contestant], rounds: int, began: Callable[[Contestant, int], None] = lambda *_: None
) -> list[Row]:
    """A row for each contestant, the best of several rounds in turns.

    Raises:
        RuntimeError: a contestant that failed, with what it said.
    """
    rows = measure_in_turns("compression.classification_benchmark", contestants, rounds, began)
    return _with_ratios([_best([Row(**row) for row in measured]) for measured in rows])


def _best(rows: Sequence[Row]) -> Row:
    many = max(rows, key=lambda row: row.sentences_per_second)
    return replace(
        many,
        sentence_ms=min(row.sentence_ms for row in rows),
        load_seconds=min(row.load_seconds for row in rows),
        peak_memory_mb=min(row.peak_memory_mb for row in rows),
    )


def _with_ratios(rows: Sequence[Row]) -> list[Row]:
    peers = [row for row in rows if row.engine != "ours"]

    def ratios(row: Row) -> dict[str, tuple[float, float]]:
        return {
            f"{peer.engine} {peer.precision}": (
                round(peer.sentence_ms / row.sentence_ms, 2),
                round(row.sentences_per_second / peer.sentences_per_second, 2),
            )
            for peer in peers
        }

    return [replace(row, ratios=ratios(row)) if row.engine == "ours" and peers else row for row in rows]


def measure(contestant: Contestant) -> Row:
    """In this process, which should have done nothing else before."""
    start = perf_counter()
    folder = Path(contestant.task)
    head = LinearHead.from_tensors(read_json(folder / SETTINGS_FILE)["pooling"], load_file(folder / HEAD_FILE))
    encoder = open_encoder(
        contestant.engine, contestant.precision, contestant.path, contestant.task, contestant.threads
    )
    load_seconds = perf_counter() - start
    random = np.random.default_rng(0)
    sentence = [random.integers(20, _VOCABULARY, SENTENCE_TOKENS).tolist()]
    many = [random.integers(20, _VOCABULARY, _LENGTHS[i % len(_LENGTHS)]).tolist() for i in range(SENTENCES)]

    classify(encoder, head, sentence)  # not counted
    single = min(seconds_of(lambda: classify(encoder, head, sentence)) for _ in range(_REPEATS))
    best = max(_BATCH_TOKENS, key=lambda tokens: _speed(encoder, head, many[:_TRIED], tokens))
    return Row(
        contestant.engine,
        contestant.precision,
        round(1000 * single, 2),
        round(_speed(encoder, head, many, best), 1),
        best,
        round(load_seconds, 2),
        peak_memory_mb(),
        round(encoder.size_mb, 1),
    )


def _speed(encoder: Encoder, head: LinearHead, rows: Sequence[Sequence[int]], tokens: int) -> float:
    """Sentences a second, in batches of like length with so many tokens."""
    batches = [[rows[i] for i in batch] for batch in length_batches([len(row) for row in rows], tokens)]
    return len(rows) / seconds_of(lambda: [classify(encoder, head, batch) for batch in batches])


def classify(encoder: Encoder, head: LinearHead, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """The labels' numbers, [rows]"""
    return head.logits(head.features(*encoder.encode(rows))).argmax(axis=1)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure(Contestant(**json.loads(sys.argv[1]))))) + "\n")
