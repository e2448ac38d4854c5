"""A visitor has texts classified, one or a file of them, and teaches a classifier of their own."""

import re
import time
from pathlib import Path

from playwright.sync_api import expect

from tests.ui.actions import open_tab, write


def test_a_text_is_classified_and_its_words_are_weighed(server, open_page):
    page = open_page(server)
    open_tab(page, "Classify")
    page.get_by_label("Intent").check()
    page.fill("#classify-text textarea", "please set an <b>alarm</b> for six in the morning")
    write(page)
    result = page.locator("#classify-result")
    expect(result.locator(".decision")).to_have_text(re.compile("alarm.*", re.DOTALL), timeout=10_000)
    expect(result.locator(".bar.chosen .bar-value")).to_contain_text("%")
    expect(result.locator("mark.for").first).to_be_visible(timeout=10_000)
    expect(result.locator(".words")).to_contain_text("<b>alarm</b>")  # a text is no mark-up
    expect(page.locator("#classify-figures")).to_contain_text(re.compile(r"\d+ ms"))
    page.fill("#classify-text textarea", "what is the capital of australia")
    write(page)
    expect(result.locator(".decision")).to_contain_text("Out of scope", timeout=10_000)
    page.fill("#classify-text textarea", "  ")
    write(page)
    expect(page.locator("#classify-figures [role=alert]")).to_contain_text("is empty")


def classify_a_long_text(page, server):
    open_tab(page, "Classify")
    page.fill("#classify-text textarea", "It was a fine day, and the sea was calm. " * 20_000)
    page.locator("button.start:visible").click()
    time.sleep(3)
    assert server.is_computing(0.3)


def test_the_reading_of_a_long_text_can_be_stopped(server, open_page):
    page = open_page(server)
    classify_a_long_text(page, server)
    page.locator("button.stop:visible").click()
    expect(page.locator("#classify-figures")).to_contain_text("stopped")
    expect(page.locator("button.start:visible")).to_be_enabled()
    time.sleep(0.5)
    assert not server.is_computing()


def test_a_visitor_who_leaves_ends_the_reading_of_their_text(server, open_page):
    page = open_page(server)
    classify_a_long_text(page, server)
    page.close()
    time.sleep(3)
    assert not server.is_computing()


def test_labels_of_ones_own(server, open_page):
    page = open_page(server)
    open_tab(page, "Classify")
    page.get_by_role("button", name="Chop the onions").click()
    expect(page.locator("#labels input, #labels textarea")).to_have_value("cooking, sports, astronomy")
    write(page)
    expect(page.locator("#classify-result .decision")).to_contain_text("cooking", timeout=10_000)
    page.locator("#labels input, #labels textarea").fill("cooking, Cooking")
    write(page)
    expect(page.locator("#classify-figures [role=alert]")).to_contain_text("there twice")


def test_a_visitor_teaches_a_classifier_and_takes_it_along(server, open_page, tmp_path):
    page = open_page(server)
    open_tab(page, "Teach")
    page.locator("#teach-try").click()
    expect(page.locator("#teach-result [role=alert]")).to_contain_text("Teach a classifier first")
    write(page)
    expect(page.locator("#teach-figures")).to_contain_text("3 labels, 15 examples", timeout=20_000)
    expect(page.locator("#confusion img")).to_be_visible()
    page.fill("#teach-text textarea", "The package is late.")
    page.locator("#teach-try").click()
    expect(page.locator("#teach-result .decision")).to_contain_text("delivery", timeout=10_000)
    with page.expect_download() as download:
        page.locator("#teach-download").click()
    page.fill("#teach-text textarea", "The package is late. " * 200)
    page.locator("#teach-try").click()
    expect(page.locator("#teach-result")).to_contain_text("overlapping windows", timeout=10_000)
    path = tmp_path / "classifier.safetensors"
    path.write_bytes(Path(download.value.path()).read_bytes())

    other = open_page(server)  # another visitor, who hasn't got it
    open_tab(other, "Teach")
    other.fill("#teach-text textarea", "Is the coat too tight?")
    other.locator("#teach-try").click()
    expect(other.locator("#teach-result [role=alert]")).to_contain_text("Teach a classifier first")
    other.set_input_files("#teach-back input[type=file]", path)
    expect(other.locator("#teach-result")).to_contain_text("loaded: delivery, refund, size", timeout=10_000)
    other.locator("#teach-try").click()
    expect(other.locator("#teach-result .decision")).to_contain_text("size", timeout=10_000)

    other.fill("#teach-lines textarea", "a: x\nno label here")
    write(other)
    expect(other.locator("#teach-figures [role=alert]")).to_contain_text("Line 2")
    path.write_bytes(path.read_bytes()[:-8] + b"12345678")
    other.locator("#teach-back button[aria-label='Clear']").click()
    other.set_input_files("#teach-back input[type=file]", path)
    expect(other.locator("#teach-result [role=alert]")).to_contain_text("was changed", timeout=10_000)


def test_many_texts_from_a_file_make_a_table(server, open_page, tmp_path):
    file = tmp_path / "questions.csv"
    file.write_bytes("\ufefftext;label\r\nwhat is my balance;x\r\nflip a coin;y\r\n".encode())
    page = open_page(server)
    open_tab(page, "Classify")
    page.get_by_label("Intent").check()
    page.set_input_files("#file input[type=file]", file)
    expect(page.locator("#file")).to_contain_text("questions")
    write(page)
    table = page.locator("#classify-table")
    expect(table).to_contain_text("flip coin", timeout=10_000)
    expect(page.locator("#classify-figures")).to_contain_text("2 texts")
    with page.expect_download() as download:
        page.locator("#classify-download").click()
    lines = Path(download.value.path()).read_text("utf-8-sig").splitlines()
    assert lines[0] == "text,label,probability,out_of_scope"
    assert lines[1].startswith("what is my balance,balance,")

    file.write_text("sentence\nx\n")
    page.locator("#file button[aria-label='Clear']").click()
    page.set_input_files("#file input[type=file]", file)
    expect(page.locator("#file")).to_contain_text("questions")
    write(page)
    expect(page.locator("#classify-figures [role=alert]")).to_contain_text("no column")
