"""Words as the backbone reads them: rows of token ids, and where in them each word ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gpt_tasks.tasks.windows import OVERLAP, window_size

if TYPE_CHECKING:
    from gpt_tasks.backbone.artifact import Artifact
    from gpt_tasks.backbone.weights import Model

Reading = Literal["once", "twice", "in_context"]
"""once: a sentence at a time. twice: the sentence follows itself, and its words are those of the second time, which
have seen it to its end. in_context: the sentences of a text follow each other in a row, as many as it holds, so that
each has seen those before it."""
_LONGEST_WORD = 48
"""Tokens. Of a longer word, the first and the last are read."""
_LONGEST_ENCODED = 2000
"""Characters: far more than so many tokens."""


@dataclass(frozen=True)
class Row:
    """A sentence, or a part of one that is too long, in what is read at once: where sentences are read in context,
    several rows have the same ids."""

    ids: tuple[int, ...]
    first: int
    """the number of its first word in the sentence"""
    ends: tuple[int, ...]
    """of each word, its last token's place in `ids`"""


@dataclass(frozen=True)
class PartRow:
    """A row whose words may have parts, as "drug-induced" has three."""

    ids: tuple[int, ...]
    first: int
    ends: tuple[tuple[int, ...], ...]
    """of each word, its parts' last tokens"""

    def whole(self) -> Row:
        return Row(self.ids, self.first, tuple(parts[-1] for parts in self.ends))

    def apart(self, first: int) -> Row:
        """Every part a word.

        Args:
            first: the number of the first part in the sentence
        """
        return Row(self.ids, first, tuple(end for parts in self.ends for end in parts))


class RowReader:
    """
    Args:
        encode: a text's token ids
        begin: the token that the model has seen at the beginning of every text, if it has one
        window: the most tokens of a row
    """

    def __init__(
        self, encode: Callable[[str], Sequence[int]], begin: int | None, window: int, reading: Reading = "once"
    ) -> None:
        self._encode = encode
        self._begin = () if begin is None else (begin,)
        self._window = window // 2 if reading == "twice" else window
        self._twice, self._in_context = reading == "twice", reading == "in_context"

    @classmethod
    def of(cls, model: "Artifact | Model", encode: Callable[[str], Sequence[int]], reading: Reading) -> "RowReader":
        """What training and serving share."""
        return cls(encode, model.hugging_face_config.get("bos_token_id"), window_size(model.config), reading)

    def rows(self, sentences: Sequence[Sequence[str]]) -> list[list[Row]]:
        """As `part_rows`, words that have no parts."""
        split = [[[word] for word in words] for words in sentences]
        return [[row.whole() for row in rows] for rows in self.part_rows(split)]

    def part_rows(self, sentences: Sequence[Sequence[Sequence[str]]]) -> list[list[PartRow]]:
        """Of each sentence its rows, which overlap where there are several.

        Args:
            sentences: of one text, one after the other; each has words, at least one, in parts. The first part has
                the space that stands before the word, if one does.
        """
        found: list[list[PartRow]] = []
        together: list[list[_ReadWord]] = []
        tokens = 0
        for words in sentences:
            read = [self._word(parts) for parts in words]
            size = sum(len(ids) for ids, _ in read)
            if not self._in_context or size > self._window:
                found += self._joined(together)
                together, tokens = [], 0
                found.append(self._alone(read))
                continue
            if tokens + size > self._window:
                found += self._joined(together)
                together, tokens = [], 0
            together.append(read)
            tokens += size
        return found + self._joined(together)

    def _joined(self, sentences: Sequence[Sequence["_ReadWord"]]) -> list[list[PartRow]]:
        """A row each, in the same ids."""
        whole = self._row([word for sentence in sentences for word in sentence], 0)
        found, begin = [], 0
        for sentence in sentences:
            found.append([PartRow(whole.ids, 0, whole.ends[begin : begin + len(sentence)])])
            begin += len(sentence)
        return found

    def _alone(self, read: Sequence["_ReadWord"]) -> list[PartRow]:
        found, first = [], 0
        while True:
            last, tokens = first, 0
            while last < len(read) and (last == first or tokens + len(read[last][0]) <= self._window):
                tokens += len(read[last][0])
                last += 1
            found.append(self._row(read[first:last], first))
            if last == len(read):
                return found
            tokens, following = 0, last
            while following > first + 1 and tokens + len(read[following - 1][0]) <= min(OVERLAP, self._window // 2):
                following -= 1
                tokens += len(read[following][0])
            first = following

    def _word(self, parts: Sequence[str]) -> "_ReadWord":
        ids: list[int] = []
        ends = []
        for part in parts:
            half = _LONGEST_ENCODED // 2
            ids += self._encode(part if len(part) <= _LONGEST_ENCODED else part[:half] + part[-half:]) or (0,)
            ends.append(len(ids))
        most = min(_LONGEST_WORD, self._window)
        if len(ids) > most:
            ids = ids[: most - most // 2] + ids[len(ids) - most // 2 :]
            ends = [*(min(end, most) for end in ends[:-1]), most]
        return ids, ends

    def _row(self, words: Sequence["_ReadWord"], first: int) -> PartRow:
        text = [token for ids, _ in words for token in ids]
        at = len(self._begin) + (len(text) if self._twice else 0)
        places = []
        for ids, ends in words:
            places.append(tuple(at + end - 1 for end in ends))
            at += len(ids)
        return PartRow((*self._begin, *text, *(text if self._twice else ())), first, tuple(places))


_ReadWord = tuple[list[int], list[int]]
"""A word's ids, and how many there are up to each part's end."""


def kept(rows: Sequence[Row], place: int) -> tuple[int, int]:
    """The words, numbered in the sentence, whose spans a row answers for: to the middle of what it shares with its
    neighbours."""
    row = rows[place]
    begin, end = row.first, row.first + len(row.ends)
    if place:
        begin = (begin + rows[place - 1].first + len(rows[place - 1].ends)) // 2
    if place + 1 < len(rows):
        end = (end + rows[place + 1].first) // 2
    return begin, end


def shared_ids(rows: Sequence[Row]) -> list[list[int]]:
    """The rows' numbers, those with the same ids together: what has to be read once."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(row.ids, []).append(number)
    return list(groups.values())


def tokens_read(rows: Sequence[Row]) -> int:
    """What rows with the same ids share counts once."""
    return sum(map(len, {row.ids for row in rows}))
