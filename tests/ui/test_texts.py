"""The page's translations."""

import re

import pytest

from gpt_tasks.errors import UserError
from gpt_tasks.ui.texts import explain, label, language_of, say, translations


class Request:
    def __init__(self, accepted):
        self.headers = {"accept-language": accepted} if accepted is not None else {}


def test_every_language_has_every_text_with_the_same_placeholders():
    english = translations()["en"]
    assert {"en", "zh"} <= translations().keys()
    for language, texts in translations().items():
        assert texts.keys() == english.keys(), language
        for key, text in texts.items():
            assert set(re.findall(r"\{(\w+)", text)) == set(re.findall(r"\{(\w+)", english[key])), (language, key)


@pytest.mark.parametrize(
    "accepted, language",
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB", "en"),
        ("fr-FR,zh;q=0.5", "zh"),
        ("fr", "en"),
        ("", "en"),
        (None, "en"),
        ("*", "en"),
        ("zh-Hant-TW;q=0.7", "zh"),
        ("xzh", "en"),
    ],
)
def test_the_language_that_the_browser_asks_for(accepted, language):
    assert language_of(Request(accepted)) == language


def test_errors_are_translated_where_they_can_be():
    error = UserError("English.", key="length_out_of_range", most=5, value=9)
    assert explain(Request("zh"), error) == "长度须在 1 到 5 个新词元之间，不能是 9。"
    assert explain(Request("zh"), UserError("English only.")) == "English only."
    assert say(None, "figure_new", tokens=3) == "new tokens: 3"
    with pytest.raises(KeyError):
        label("no such text")
