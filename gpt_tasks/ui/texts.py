"""The page's texts, one file a language in `locales`.

What stands on the page from the start is translated in the browser (`gr.I18n`); what the server
says later is translated here, by the language that the browser asks for. Both go by the same keys.
"""

import json
import re
from functools import cache
from pathlib import Path

import gradio as gr

from gpt_tasks.errors import UserError

_LOCALES = Path(__file__).parent / "locales"
DEFAULT_LANGUAGE = "en"


@cache
def translations() -> dict[str, dict[str, str]]:
    """language -> key -> text"""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(_LOCALES.glob("*.json"))}


@cache
def browser_texts() -> gr.I18n:
    return gr.I18n(**translations())


def label(key: str) -> object:
    """A text that the browser translates; for labels, placeholders and the like.

    Raises:
        KeyError: no such text.
    """
    if key not in translations()[DEFAULT_LANGUAGE]:
        raise KeyError(key)
    return browser_texts()(key)


def language_of(request: gr.Request | None) -> str:
    """The first language of the browser's list that there is a file for."""
    accepted = request.headers.get("accept-language", "") if request is not None else ""
    for language in re.findall(r"[a-zA-Z]+(?=[-_;,\s]|$)", re.sub(r"-[A-Za-z0-9]+", "", accepted)):
        if language.lower() in translations():
            return language.lower()
    return DEFAULT_LANGUAGE


def has_text(key: str) -> bool:
    return key in translations()[DEFAULT_LANGUAGE]


def say(request: gr.Request | None, key: str, **values: object) -> str:
    """A text in the visitor's language, with its {placeholders} filled in."""
    return translations()[language_of(request)][key].format(**values)


def explain(request: gr.Request | None, error: UserError) -> str:
    """An error in the visitor's language, or in English where there is no translation."""
    if error.key in translations()[DEFAULT_LANGUAGE]:
        return say(request, error.key, **error.values)
    return str(error)
