"""Measures our extraction against a token classifier in transformers, on an article of 3,000 words.

article_seconds     from the text to its entities
tokens_per_second   of the article, each counted once
load_seconds, peak_memory_mb, size_mb   as in `benchmark`

The peer is the same model with a linear layer on top, in fp32, reading the same sentences in batches of like length,
in the best of several batch sizes; making tokens of the text isn't counted for it.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

from compression.benchmark import measure_in_turns, peak_memory_mb, seconds_of
from compression.peers import size_mb
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.encoder_engine import EncoderEngine, length_batches, padded
from gpt_tasks.tasks.extraction.extraction_task import load_extraction
from gpt_tasks.tasks.extraction.reading import RowReader
from gpt_tasks.tasks.extraction.sentences import split_sentences
from gpt_tasks.tasks.extraction.text_extraction import TextExtractor
from gpt_tasks.tasks.extraction.words import find_words, pieces

WORDS = 3000
_TEXT = Path(__file__).resolve().parents[1] / "assets" / "texts" / "calibration.txt"
_LABELS = 9  # as in CoNLL-2003
_BATCH_TOKENS = (128, 512, 2048)
_REPEATS = 3


@dataclass(frozen=True)
class Contestant:
    """Which engine to measure; everything a child process needs to know."""

    engine: str
    """ours or transformers"""
    precision: str
    path: str
    """of the artifact or checkpoint"""
    artifact: str
    """whose tokenizer makes the sentences"""
    task: str
    """the folder with the head"""
    threads: int


@dataclass(frozen=True)
class Row:
    engine: str
    precision: str
    article_seconds: float
    tokens_per_second: float
    load_seconds: float
    peak_memory_mb: float
    size_mb: float
    ratio: float | None = None
    """how many times the peer's tokens a second"""


def compare(
    contestants: Sequence[Contestant], rounds: int, began: Callable[[Contestant, int], None] = lambda *_: None
) -> list[Row]:
    """A row for each contestant, the best of several rounds in turns.

    Raises:
        RuntimeError: a contestant that failed, with what it said.
    """
    rows = measure_in_turns("compression.extraction_benchmark", contestants, rounds, began)
    return with_ratios([_best([Row(**row) for row in measured]) for measured in rows])


def _best(rows: Sequence[Row]) -> Row:
    return replace(
        max(rows, key=lambda row: row.tokens_per_second),
        load_seconds=min(row.load_seconds for row in rows),
        peak_memory_mb=min(row.peak_memory_mb for row in rows),
    )


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """Ours held against the peer, where it was measured too."""
    peer = next((row for row in rows if row.engine == "transformers"), None)
    if peer is None:
        return list(rows)
    return [
        replace(row, ratio=round(row.tokens_per_second / peer.tokens_per_second, 2)) if row.engine == "ours" else row
        for row in rows
    ]


def article() -> str:
    """The first 3,000 words of the prose that calibrates quantization."""
    text = _TEXT.read_text("utf-8")
    words = 0
    for index, character in enumerate(text):
        words += character.isspace() and not text[index - 1].isspace()
        if words == WORDS:
            return text[:index]
    return text


def measure(contestant: Contestant) -> Row:
    """In this process, which should have done nothing else before."""
    start = perf_counter()
    artifact = Artifact(Path(contestant.artifact))
    task = load_extraction(Path(contestant.task), artifact)
    text = article()
    reader = RowReader.of(artifact, artifact.load_tokenizer().encode, task.settings.reading)
    sentences = [pieces(text, sentence) for sentence in split_sentences(text, find_words(text))]
    rows = list({row.ids for rows in reader.rows(sentences) for row in rows})
    if contestant.engine == "ours":
        engine = EncoderEngine(artifact, contestant.precision, contestant.threads)
        load_seconds = perf_counter() - start
        extractor = TextExtractor(engine, artifact, artifact.load_tokenizer())
        size = artifact.report["precisions"][contestant.precision]["size_mb"]

        def work() -> None:
            extractor.extract(text, [task])
    else:
        model = _token_classifier(contestant)
        load_seconds = perf_counter() - start
        batch_tokens = min(_BATCH_TOKENS, key=lambda tokens: seconds_of(lambda: model(rows, tokens)))
        size = size_mb(Path(contestant.path).glob("*.safetensors"))

        def work() -> None:
            model(rows, batch_tokens)

    work()  # not counted
    tokens, seconds = sum(map(len, rows)), min(seconds_of(work) for _ in range(_REPEATS))
    return Row(
        contestant.engine,
        contestant.precision,
        round(seconds, 4),
        round(tokens / seconds, 1),
        round(load_seconds, 2),
        peak_memory_mb(),
        round(size, 1),
    )


def _token_classifier(contestant: Contestant) -> Callable[[Sequence[Sequence[int]], int], None]:
    """Rows and the tokens of a batch -> every token's label."""
    import torch
    from transformers import AutoModelForTokenClassification

    torch.set_num_threads(contestant.threads)
    model = AutoModelForTokenClassification.from_pretrained(
        contestant.path, dtype=torch.float32, num_labels=_LABELS
    ).eval()

    def classify(rows: Sequence[Sequence[int]], tokens: int) -> None:
        for batch in length_batches([len(row) for row in rows], tokens):
            ids, mask = padded([rows[index] for index in batch])
            with torch.inference_mode():
                model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.argmax(-1)

    return classify


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure(Contestant(**json.loads(sys.argv[1]))))) + "\n")
