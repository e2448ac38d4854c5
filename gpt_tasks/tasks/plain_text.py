"""Brings text that a corpus or a feed has taken apart back to what people write, which is what the backbone has read.

Treebank tokens (`do n't`, `fine , thanks .`), broken HTML entities (`Japan #39;s`) and lower case throughout cost
about a point of accuracy with frozen features on SST-2; text that nobody took apart stays as it is.
"""

import html
import re

_BROKEN_ENTITIES = re.compile(r" ?(?<![&\w])(#39|amp|quot|lt|gt|nbsp);")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_BRACKETS = {"-lrb-": "(", "-rrb-": ")", "-lsb-": "[", "-rsb-": "]", "``": '"', "''": '"'}
_BRACKET = re.compile(r"(?<!\S)(?:-[lr][rs]b-|``|'')(?!\S)", re.IGNORECASE)
_SPACE_BEFORE = re.compile(r"(?<! ) +(?=(?:n't|'(?:s|re|ve|ll|d|m)?|[.!?]+|[,;:%)\]])(?!\S))", re.IGNORECASE)
_SPACE_AFTER = re.compile(r"(?<=[(\[]) +")
_SENTENCE_BEGIN = re.compile(r"(?:^|[.!?]\s+)[a-z]")
_LONE_I = re.compile(r"\bi\b(?!\.)")


def plain_text(text: str) -> str:
    """The same words, as they would be written."""
    text = html.unescape(_BROKEN_ENTITIES.sub(r"&\1;", text))
    text = _TAG.sub(" ", text)
    text = _BRACKET.sub(lambda found: _BRACKETS[found.group().lower()], text)
    text = _SPACE_AFTER.sub("", _SPACE_BEFORE.sub("", text))
    if text == text.lower():
        text = _LONE_I.sub("I", _SENTENCE_BEGIN.sub(lambda found: found.group().upper(), text))
    return text
