"""What is shown of an extraction, and what is said to be left out."""

import pytest

from gpt_tasks.tasks.extraction.text_extraction import Extracted, TextEvent, TextLink, TextSpan
from gpt_tasks.ui import extraction_html


def span(text, start=0, label="Peop"):
    return TextSpan(start, start + len(text), text, label, 0.9)


def link(head, tail):
    return TextLink(span(head), span(tail), "Kill", 0.9)


def test_long_names_that_begin_alike_are_two_nodes():
    begin = "The Royal Society of the Friends of "
    picture = extraction_html.graph([link(f"{begin}Trees", f"{begin}Bees")], None)
    assert picture.count("<rect") == 2


@pytest.mark.parametrize(("count", "said"), [(14, 0), (15, 1), (101, 2)])
def test_relations_that_are_not_shown_are_counted(count, said):
    html = extraction_html.relations([link(f"a{number}", "b") for number in range(count)], None)
    assert html.count("notice-line") == said
    assert html.count("<tr>") == 1 + min(count, 100)


def test_a_text_and_events_that_are_not_shown():
    found = Extracted("events", "tiny", events=[TextEvent(span("fell", label="Fall"), [])] * 101)
    html = extraction_html.shown("fell " * 10_000, found, ["Fall"], None)
    assert "The first 30,000 of 50,000 characters" in html and "The first 100 of 101" in html
