"""Words of a text with their places in it, and the text of words that a corpus has taken apart."""

import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass


def _combining_marks() -> str:
    """The inside of a character class: they belong to the letter before them, which `\\w` doesn't know."""
    codes = [c for c in range(0x300, sys.maxunicode + 1) if unicodedata.category(chr(c)).startswith("M")]
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


_MARKS = _combining_marks()
_IDEOGRAMS = "\\u3040-\\u30ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\U00020000-\\U0003ffff"
_LETTER = rf"(?:[^\W{_IDEOGRAMS}]|[{_MARKS}\u200c\u200d])"  # digits too, and what is zero wide between letters
_TITLES = (
    "Mr|Mrs|Ms|Dr|Prof|Rev|Hon|Sen|Rep|Gov|Gen|Col|Lt|Sgt|Capt|Adm|St|Mt|Jr|Sr|Inc|Corp|Co|Ltd|Bros|vs|No|Nos|Fig|"
    "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
)
_ENDINGS = "s|re|ve|ll|d|m"  # after an apostrophe


def _word_pattern(joiners: str) -> re.Pattern:
    """
    Args:
        joiners: characters that make one word of the letters on both sides
    """
    address = r"[^\s<>\"]*[^\s<>\".,;:!?)\]']"
    kinds = [
        rf"(?:https?://|www\.){address}",
        rf"[@#]{_LETTER}+",
        rf"[{_IDEOGRAMS}][{_MARKS}]*",
        rf"(?<!\w)(?:{_TITLES})\.(?!\w)",
        r"(?<!\w)(?:[^\W\d_]\.){2,}",  # U.S., p.m.
        r"(?<!\w)[A-Z]\.(?=\s+[A-Z])",  # an initial
        rf"\d+(?:[.,:/{joiners}]\d+)+",
        rf"{_LETTER}+(?=n['’]t\b)",
        r"n['’]t\b",
        rf"['’](?i:{_ENDINGS})\b",
        rf"{_LETTER}+(?:[&{joiners}]{_LETTER}+|['’]{_LETTER}{{3,}})*",  # AT&T, O'Brien
        r"(?P<same>[^\w\s])(?P=same)+",  # ..., !!!
        rf"[^\w\s](?:[{_MARKS}\U0001f3fb-\U0001f3ff]|\u200d[^\w\s])*",  # an emoji and what changes it
        r"\S",
    ]
    return re.compile("|".join(kinds))


_WHOLE, _APART = _word_pattern(r"\-"), _word_pattern("")


@dataclass(frozen=True)
class Word:
    """`text[start:end]`, in characters."""

    start: int
    end: int


def find_words(text: str, split_hyphens: bool = False) -> list[Word]:
    """Every character that isn't a space belongs to one word.

    Args:
        split_hyphens: "drug-induced" is three words, as in some corpora
    """
    pattern = _APART if split_hyphens else _WHOLE
    return [Word(*found.span()) for found in pattern.finditer(text)]


def pieces(text: str, words: Sequence[Word]) -> list[str]:
    """Each word as the tokenizer shall read it: with a space before it, where the text has any."""
    return [
        (" " if word.start and text[word.start - 1].isspace() else "") + text[word.start : word.end] for word in words
    ]


_BRACKETS = {"-lrb-": "(", "-rrb-": ")", "-lsb-": "[", "-rsb-": "]", "-lcb-": "{", "-rcb-": "}", "``": '"', "''": '"'}
_NO_SPACE_BEFORE = re.compile(rf"[.!?]+|[,;:%)\]}}”]|n['’]t|['’](?:{_ENDINGS})?|…", re.IGNORECASE)
_NO_SPACE_AFTER = frozenset("([{$£€#“‘")


def rejoin(tokens: Sequence[str], split_hyphens: bool = False) -> list[str]:
    """A corpus' tokens as `pieces`: a space before each, but where people write none.

    Args:
        split_hyphens: a "-" between two tokens joined them
    """
    found: list[str] = []
    glued = True  # nothing before the first
    quoted = False
    for index, token in enumerate(tokens):
        token = _BRACKETS.get(token.lower(), token) or " "
        joined = index + 1 < len(tokens) and (token == "/" or (split_hyphens and token in "-‐"))
        closing = token == '"' and quoted
        close = joined or closing or _NO_SPACE_BEFORE.fullmatch(token) is not None
        found.append(token if glued or (close and index) else f" {token}")
        glued = joined or token in _NO_SPACE_AFTER or (token == '"' and not quoted)
        quoted ^= token == '"'
    return found


def splits_hyphens(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a corpus has taken hyphened words apart."""
    return not any("-" in token[1:-1] and token[0].isalpha() and token[-1].isalpha() for row in rows for token in row)
