"""Where sentences begin and end: heads are trained on sentences, and read a text by them."""

import re
from collections.abc import Sequence

from gpt_tasks.tasks.extraction.words import Word

_ENDS = re.compile(r"[.!?…]+|[。！？]")
_CLOSING = frozenset("\"'”’)]»」』")
_SHORT_LINE = 60
"""Characters. A line that is shorter, a heading or an item of a list, ends with itself."""


def split_sentences(text: str, words: Sequence[Word]) -> list[Sequence[Word]]:
    """The words in groups; every word is in one."""
    sentences: list[Sequence[Word]] = []
    begin = 0
    for index in range(len(words)):
        if index + 1 == len(words) or _ends(text, words, begin, index):
            sentences.append(words[begin : index + 1])
            begin = index + 1
    return sentences


def _ends(text: str, words: Sequence[Word], begin: int, index: int) -> bool:
    """Whether a sentence that began at `begin` ends with word `index` (not the last one)."""
    word, following = words[index], words[index + 1]
    gap = text[word.end : following.start]
    last = index
    while last > begin and text[words[last].start : words[last].end] in _CLOSING:
        last -= 1
    stops = _ENDS.fullmatch(text, words[last].start, words[last].end) is not None
    if gap.count("\n") > 1:
        return True
    if "\n" in gap:
        return stops or word.end - max(words[begin].start, text.rfind("\n", 0, word.end)) < _SHORT_LINE
    if not stops:
        return False
    if text[words[last].start] in "。！？":
        return True
    # "e.g. this" goes on; so does "(3.) the".
    return bool(gap) and not text[following.start].islower()
