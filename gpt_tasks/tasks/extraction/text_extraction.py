"""What heads find in a person's text, in characters of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.extraction.annotations import ENTITY, TRIGGER, Span
from gpt_tasks.tasks.extraction.extraction_task import ExtractionTask
from gpt_tasks.tasks.extraction.finding import Found, find, read_features
from gpt_tasks.tasks.extraction.reading import PartRow, Row, RowReader, tokens_read
from gpt_tasks.tasks.extraction.sentences import split_sentences
from gpt_tasks.tasks.extraction.words import Word, find_words, pieces
from gpt_tasks.tasks.text_files import MOST_CHARACTERS, require_length

CHUNK_WORDS = 1200
"""Words that are read together: bounds the memory, and how long a stop has to wait."""
_CUT_WITHIN = 50  # words before the end of a part, in which a good place to cut is looked for
_CACHED_WORDS = 50_000
_STOPS = frozenset(".,;:!?")


@dataclass(frozen=True)
class TextSpan:
    """`text[start:end]`, in characters, the end exclusive."""

    start: int
    end: int
    text: str
    label: str
    confidence: float


@dataclass(frozen=True)
class TextLink:
    head: TextSpan
    tail: TextSpan
    label: str
    """of a relation or, in an event, the tail's role"""
    confidence: float


@dataclass(frozen=True)
class TextEvent:
    trigger: TextSpan
    """its label is the event's type"""
    arguments: Sequence[TextLink]


@dataclass
class Extracted:
    """What one task found, in the order of the text."""

    task: str
    schema: str
    entities: list[TextSpan] = field(default_factory=list)
    relations: list[TextLink] = field(default_factory=list)
    events: list[TextEvent] = field(default_factory=list)

    def above(self, confidence: float) -> "Extracted":
        """What is at least so sure; a relation or an argument needs its ends to be so too."""

        def sure(*found: TextSpan | TextLink) -> bool:
            return all(item.confidence >= confidence for item in found)

        return Extracted(
            self.task,
            self.schema,
            [span for span in self.entities if sure(span)],
            [link for link in self.relations if sure(link, link.head, link.tail)],
            [
                TextEvent(event.trigger, [link for link in event.arguments if sure(link, link.tail)])
                for event in self.events
                if sure(event.trigger)
            ],
        )

    def extend(self, other: "Extracted") -> None:
        self.entities += other.entities
        self.relations += other.relations
        self.events += other.events


@dataclass(frozen=True)
class Part:
    """A piece of a text, done."""

    found: Sequence[Extracted]
    """of each task"""
    tokens: int
    """that the tasks read, once each"""
    words_done: int
    words: int
    """in the whole text"""


@dataclass(frozen=True)
class _Words:
    """A sentence's words and their rows, as a head wants them: with hyphened words whole, or apart."""

    words: Sequence[Word]
    rows: Sequence[Row]
    features: Sequence[np.ndarray]
    """of each row, [words, depth, hidden]"""


class TextExtractor:
    """Reads a text once for all tasks that leave the backbone as it is. Has no state: many may use it at once."""

    def __init__(self, engine: EncoderEngine, artifact: Artifact, tokenizer: Tokenizer) -> None:
        self._engine, self._artifact = engine, artifact
        self._encode = lru_cache(_CACHED_WORDS)(lambda word: tuple(tokenizer.encode(word)))

    def passes(self, tasks: Sequence[ExtractionTask]) -> int:
        """How often the backbone reads a text for these."""
        return len({_reading_of(task) for task in tasks})

    def extract(
        self, text: str, tasks: Sequence[ExtractionTask], done: Callable[[Part], None] = lambda part: None
    ) -> list[Extracted]:
        """What each task finds.

        Args:
            done: told of every piece of the text; may raise to stop

        Raises:
            UserError: a text that is empty or too long.
        """
        found = [Extracted(task.settings.task, task.settings.schema) for task in tasks]
        for part in self.parts(text, tasks):
            for whole, piece in zip(found, part.found, strict=True):
                whole.extend(piece)
            done(part)
        return found

    def parts(self, text: str, tasks: Sequence[ExtractionTask]) -> Iterator[Part]:
        """As `extract`, a piece of the text at a time; a text without words has one, with nothing in it."""
        require_text(text)
        words = find_words(text)
        parts = _parts_of(text, words)
        done = 0
        for sentences in _chunks(text, split_sentences(text, words)):
            found, tokens = self._read(text, sentences, parts, tasks)
            done += sum(map(len, sentences))
            yield Part(found, tokens, done, len(words))
        if not words:
            yield Part([Extracted(task.settings.task, task.settings.schema) for task in tasks], 0, 0, 0)

    def _read(
        self,
        text: str,
        sentences: Sequence[Sequence[Word]],
        parts: Mapping[Word, Sequence[Word]],
        tasks: Sequence[ExtractionTask],
    ) -> tuple[list[Extracted], int]:
        found: dict[int, Extracted] = {}
        tokens = 0
        for reading in {_reading_of(task): None for task in tasks}:
            members = [number for number, task in enumerate(tasks) if _reading_of(task) == reading]
            first = tasks[members[0]]
            reader = RowReader.of(self._artifact, self._encode, first.settings.reading)
            read = reader.part_rows([[pieces(text, parts[word]) for word in sentence] for sentence in sentences])
            rows = [row.apart(0) for rows in read for row in rows]
            tokens += tokens_read(rows)
            features = read_features(self._engine, rows, first.adapter)
            for number in members:
                split = tasks[number].settings.split_hyphens
                view = _apart(sentences, parts, read, features) if split else _whole(sentences, read, features)
                found[number] = _extracted(text, tasks[number], view)
        return [found[number] for number in range(len(tasks))], tokens


def _reading_of(task: ExtractionTask) -> tuple[int, str]:
    """Tasks with the same can share a reading: the adapter's identity, and how often the text is read."""
    return id(task.adapter), task.settings.reading


def _parts_of(text: str, words: Sequence[Word]) -> dict[Word, list[Word]]:
    """Of each word, what it falls into where hyphens split; most have one part, themselves."""
    apart = find_words(text, split_hyphens=True)
    found, at = {}, 0
    for word in words:
        begin = at
        while at < len(apart) and apart[at].end <= word.end:
            at += 1
        # A word that doesn't end where a part does stays whole.
        parts = apart[begin:at]
        fits = parts and parts[0].start == word.start and parts[-1].end == word.end
        found[word] = parts if fits else [word]
    return found


def _chunks(text: str, sentences: Sequence[Sequence[Word]]) -> Iterator[list[Sequence[Word]]]:
    """Sentences of CHUNK_WORDS words together; one that is longer is cut."""
    chunk: list[Sequence[Word]] = []
    for sentence in sentences:
        for part in _cut(text, sentence):
            if chunk and sum(map(len, chunk)) + len(part) > CHUNK_WORDS:
                yield chunk
                chunk = []
            chunk.append(part)
    if chunk:
        yield chunk


def _cut(text: str, sentence: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """Parts of at most CHUNK_WORDS words. Where it can, a cut goes between two words in small letters, so that no name
    falls apart."""

    def small(word: Word) -> bool:
        return text[word.start : word.end].islower()

    begin = 0
    while len(sentence) - begin > CHUNK_WORDS:
        end = begin + CHUNK_WORDS
        near = range(end, end - _CUT_WITHIN, -1)
        cut = next((at for at in near if small(sentence[at - 1]) and small(sentence[at])), end)
        yield sentence[begin:cut]
        begin = cut
    yield sentence[begin:]


def _whole(
    sentences: Sequence[Sequence[Word]], read: Sequence[Sequence[PartRow]], features: Sequence[np.ndarray]
) -> list[_Words]:
    remaining = iter(features)
    views = []
    for sentence, rows in zip(sentences, read, strict=True):
        chosen = []
        for row in rows:
            last = np.cumsum([len(parts) for parts in row.ends]) - 1
            chosen.append(next(remaining)[last])
        views.append(_Words(sentence, [row.whole() for row in rows], chosen))
    return views


def _apart(
    sentences: Sequence[Sequence[Word]],
    parts: Mapping[Word, Sequence[Word]],
    read: Sequence[Sequence[PartRow]],
    features: Sequence[np.ndarray],
) -> list[_Words]:
    remaining = iter(features)
    views = []
    for sentence, rows in zip(sentences, read, strict=True):
        before = np.cumsum([0, *(len(parts[word]) for word in sentence)]).tolist()
        words = [part for word in sentence for part in parts[word]]
        views.append(_Words(words, [row.apart(before[row.first]) for row in rows], [next(remaining) for _ in rows]))
    return views


def _extracted(text: str, task: ExtractionTask, sentences: Sequence[_Words]) -> Extracted:
    features = [feature for sentence in sentences for feature in sentence.features]
    extracted = Extracted(task.settings.task, task.settings.schema)
    for sentence, found in zip(
        sentences, find(task.head, [sentence.rows for sentence in sentences], features), strict=True
    ):
        _add(extracted, text, sentence.words, found)
    return extracted


def _add(extracted: Extracted, text: str, words: Sequence[Word], found: Found) -> None:
    def place(span: Span, confidence: float) -> TextSpan:
        start, last = words[span.start].start, span.end - 1
        # A corpus has "Inc ." in two words; in a person's text a stop on its own ends the sentence.
        while last > span.start and text[words[last].start : words[last].end] in _STOPS:
            last -= 1
        end = words[last].end
        return TextSpan(start, end, text[start:end], span.label, confidence)

    spans = {item.span: place(item.span, item.confidence) for item in found.spans}
    links = [
        (link.head, TextLink(spans[link.head], spans[link.tail], link.label, link.confidence)) for link in found.links
    ]
    extracted.entities += [shown for span, shown in spans.items() if span.layer == ENTITY]
    extracted.relations += [_directed(link) for head, link in links if head.layer == ENTITY]
    extracted.events += [
        TextEvent(shown, [link for head, link in links if head == span])
        for span, shown in spans.items()
        if span.layer == TRIGGER
    ]


def _directed(link: TextLink) -> TextLink:
    """A label such as Cause-Effect(e2,e1) says that the second is the head."""
    name, _, direction = link.label.partition("(")
    if direction == "e2,e1)":
        return TextLink(link.tail, link.head, name, link.confidence)
    return TextLink(link.head, link.tail, name, link.confidence)


def require_text(text: str, most: int = MOST_CHARACTERS) -> None:
    """
    Args:
        most: characters

    Raises:
        UserError: a text that is empty, too long, or no text at all.
    """
    if not isinstance(text, str):
        raise UserError("The text is not a string.")
    if not text.strip():
        raise UserError("There is no text. Write one.", key="empty_text")
    require_length(text, most)
