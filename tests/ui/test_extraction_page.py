"""A visitor extracts, filters, takes away, stops; and analyses a text."""

import json
from pathlib import Path

from playwright.sync_api import expect

from tests.ui.actions import open_tab, write


def test_entities_are_marked_filtered_and_downloaded(server, open_page):
    page = open_page(server)
    open_tab(page, "Extract")
    text = "Tim Cook of Apple met Olaf Scholz in Berlin."
    page.fill("#extract-text textarea", text)
    write(page)
    result = page.locator("#extract-result")
    expect(result.locator("mark[title*='PER']").first).to_contain_text("Tim Cook", timeout=20_000)
    expect(page.locator("#extract-figures")).to_contain_text("ms")
    expect(result.locator(".legend")).to_contain_text("place")
    with page.expect_download() as download:
        page.locator("#extract-files a", has_text="B").first.click()
    found = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert [text[span["start"] : span["end"]] for span in found["entities"]] == [
        span["text"] for span in found["entities"]
    ]
    slider = page.locator("#threshold input[type=number]")
    slider.fill("100")
    slider.press("Tab")
    expect(result).to_contain_text("No entity found that is sure enough", timeout=10_000)
    expect(page.locator("#extract-figures")).not_to_contain_text("entities:")
    slider.fill("0")
    slider.press("Tab")
    expect(result.locator("mark.span").first).to_be_visible(timeout=10_000)
    expect(page.locator("#extract-figures")).to_contain_text(f"entities: {result.locator('.words mark.span').count()}")

    page.fill("#extract-text textarea", "  ")
    write(page)
    expect(page.locator("#extract-figures [role=alert]")).to_contain_text("the text is empty")


def test_relations_are_drawn_and_events_have_cards(server, open_page):
    page = open_page(server, viewport={"width": 390, "height": 844})
    open_tab(page, "Extract")
    page.get_by_label("Relations of people").check()
    page.fill("#extract-text textarea", "John Wilkes Booth shot Abraham Lincoln. <b>& so on</b>")
    write(page)
    result = page.locator("#extract-result")
    expect(result.locator("svg.graph")).to_contain_text("kills", timeout=20_000)
    expect(result.locator("table.relations")).to_contain_text("Abraham Lincoln")
    expect(result).to_contain_text("<b>& so on</b>")
    page.get_by_label("Events in medicine").check()
    page.fill("#extract-text textarea", "She developed severe tremor after treatment with lithium.")
    write(page)
    expect(result.locator(".card").first).to_contain_text("lithium", timeout=10_000)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_long_text_can_be_stopped(server, open_page):
    page = open_page(server)
    open_tab(page, "Extract")
    page.fill("#extract-text textarea", "Tim Cook of Apple met Olaf Scholz in Berlin. " * 10_000)
    write(page)
    expect(page.locator("#extract-figures")).to_contain_text("of 100000 words", timeout=20_000)
    page.locator("button.stop:visible").click()
    expect(page.locator("#extract-figures")).to_contain_text("stopped", timeout=20_000)
    expect(page.locator("#extract-result mark.span").first).to_be_visible()
    assert not server.is_computing()


def test_a_text_that_is_stopped_at_once_shows_no_result(server, open_page):
    """One sentence without an end is one piece, which takes seconds to read."""
    page = open_page(server)
    open_tab(page, "Extract")
    page.fill("#extract-text textarea", "Tim Cook and " * 6_000)
    write(page)
    page.locator("button.stop:visible").click()
    expect(page.locator("#extract-figures")).to_contain_text("stopped", timeout=30_000)
    expect(page.locator("#extract-result")).to_be_empty()


def test_everything_about_a_text(server, open_page):
    page = open_page(server)
    open_tab(page, "Analyse")
    page.fill("#analyse-text textarea", "Shares of Ford fell in New York after Jim Farley warned of slow sales.")
    write(page)
    result = page.locator("#analyse-result")
    expect(result.locator(".decisions")).to_contain_text("Business", timeout=20_000)
    expect(result.locator("mark[title*='ORG']").first).to_contain_text("Ford")
    expect(page.locator("#analyse-figures")).to_contain_text("passes over the model: 5")
