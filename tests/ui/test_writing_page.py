"""A visitor writes, stops, chats and goes away."""

import json
import re
import shutil
import time

import pytest
from playwright.sync_api import expect

from tests.ui.actions import PROMPT, set_length, set_number, write
from tests.ui.conftest import serve


def always_the_likeliest(page):
    """So that the text is the same each time; this model's never ends by itself then."""
    set_number(page, "Temperature", 0)
    set_number(page, "Repetition penalty", 1)


def write_a_long_text(page):
    """Longer than any test waits; returns when it has begun."""
    page.fill("#open-ended-text textarea", PROMPT)
    set_length(page, 2048)
    always_the_likeliest(page)
    write(page)
    expect(page.locator("#open-ended-figures")).to_contain_text("new tokens", timeout=10_000)


def test_the_page_writes_and_says_its_figures(server, open_page):
    page = open_page(server)
    expect(page).to_have_title("GPT tasks")
    page.fill("#open-ended-text textarea", PROMPT)
    set_length(page, 24)
    write(page)
    figures = page.locator("#open-ended-figures")
    expect(figures).to_contain_text("new tokens: 24", timeout=10_000)
    expect(figures).to_contain_text(re.compile(r"first token \d+ ms"))
    expect(figures).to_contain_text(re.compile(r"\d+ tokens/s"))
    expect(figures).to_contain_text("prompt tokens: 13")
    assert len(page.input_value("#open-ended-result textarea")) > 20
    expect(page.locator("button.start:visible")).to_be_enabled()


def test_stop_stops_the_computation(server, open_page):
    page = open_page(server)
    write_a_long_text(page)
    assert server.is_computing(0.3)
    page.locator("button.stop:visible").click()
    expect(page.locator("button.start:visible")).to_be_enabled()
    time.sleep(0.5)
    assert not server.is_computing()
    assert page.input_value("#open-ended-result textarea")
    expect(page.locator("#open-ended-figures")).to_contain_text("stopped")
    # And it can write again.
    set_length(page, 5)
    write(page)
    expect(page.locator("#open-ended-figures")).to_contain_text("length reached", timeout=10_000)


def test_quick_stops_and_starts_leave_buttons_that_tell_the_truth(server, open_page):
    page = open_page(server)
    page.fill("#open-ended-text textarea", PROMPT)
    set_length(page, 2048)
    always_the_likeliest(page)
    for gap in (0, 50, 120):
        page.evaluate(
            """async (gap) => {
                const press = (kind) =>
                    [...document.querySelectorAll("button." + kind)].find((button) => button.offsetParent).click();
                for (const kind of ["start", "stop", "start"]) {
                    press(kind);
                    await new Promise((done) => setTimeout(done, gap));
                }
            }""",
            gap,
        )
        time.sleep(1)
        running = server.is_computing(0.5)
        assert page.locator("button.stop:visible").is_enabled() == running
        if running:
            page.locator("button.stop:visible").click()
        expect(page.locator("button.start:visible")).to_be_enabled()
        time.sleep(0.5)
        assert not server.is_computing(0.5)


def test_what_is_written_in_a_chat_stays_text(server, open_page):
    """`open_page` fails the test if the picture is asked for."""
    page = open_page(server)
    page.get_by_role("tab", name="Dialogue").click()
    attack = "# Hi ![x](http://127.0.0.1:9/evil.png) <b>bold</b> <img src='http://127.0.0.1:9/evil.png'>"
    page.fill("#message textarea", attack)
    write(page)
    expect(page.locator("#chat .user").first).to_contain_text(attack)
    expect(page.locator("#dialogue-figures")).to_contain_text("new tokens", timeout=10_000)
    # Clearing the chat ends the run, and it stays clear.
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#chat .user")).to_have_count(0)
    time.sleep(1)
    expect(page.locator("#chat .user")).to_have_count(0)
    assert not server.is_computing(0.5)


def test_closing_the_page_stops_the_computation(server, open_page):
    page = open_page(server)
    write_a_long_text(page)
    page.close()
    time.sleep(2)
    assert not server.is_computing()


def test_a_chat_over_two_turns_reuses_the_first(server, open_page):
    page = open_page(server)
    page.get_by_role("tab", name="Dialogue").click()
    always_the_likeliest(page)
    set_length(page, 24)
    page.fill("#message textarea", "Who was Albert Einstein?")
    page.press("#message textarea", "Enter")
    figures = page.locator("#dialogue-figures")
    expect(figures).to_contain_text(re.compile("ended by itself|length reached"), timeout=15_000)
    expect(page.locator("#chat")).to_contain_text("Albert Einstein was")
    expect(figures).not_to_contain_text("from the cache")
    page.fill("#message textarea", "And Marie Curie?")
    write(page)
    expect(figures).to_contain_text("from the cache", timeout=15_000)
    reused = int(re.search(r"(\d+) of them from the cache", figures.inner_text())[1])
    assert reused >= 35  # all of the first turn's prompt
    expect(page.locator("#chat .user")).to_have_count(2)


def test_the_prompt_for_a_topic_can_be_seen_and_changed(server, open_page):
    page = open_page(server)
    page.get_by_role("tab", name="On a topic").click()
    page.get_by_role("button", name="the first snow").click()
    prompt = page.locator("#topic-prompt textarea")
    expect(prompt).to_have_value("Write a poem about the first snow.")
    page.locator("#keywords input, #keywords textarea").fill("lamp, sea")
    expect(prompt).to_have_value("Write a poem about the first snow. Include these words: lamp, sea.")
    prompt.fill("Write one sentence about snow.")
    write(page)
    expect(page.locator("#topic-figures")).to_contain_text("new tokens", timeout=10_000)
    page.locator("button.stop:visible").click()


def test_mistakes_are_explained_where_the_figures_are(server, open_page):
    page = open_page(server)
    write(page)
    alert = page.locator("#open-ended-figures [role=alert]")
    expect(alert).to_contain_text("the text is empty")
    page.fill("#open-ended-text textarea", PROMPT)
    set_length(page, 5)
    page.get_by_label("Seed").locator("visible=true").fill("first")
    write(page)
    expect(alert).to_contain_text("seed is not a number")
    page.get_by_role("tab", name="Dialogue").click()
    write(page)
    expect(page.locator("#dialogue-figures [role=alert]")).to_contain_text("Write a message first")


@pytest.fixture(scope="module")
def tiny_server(tiny_artifact, tmp_path_factory):
    """Serves a random model that reads 128 tokens and was not tuned for chat."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    shutil.copytree(tiny_artifact("gpt2")[0].folder, folder)
    (folder / "chat_template.jinja").unlink()
    report = json.loads((folder / "report.json").read_text())
    del report["files"]["chat_template.jinja"]
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    report["files"]["tokenizer_config.json"]["bytes"] = (folder / "tokenizer_config.json").stat().st_size
    (folder / "report.json").write_text(json.dumps(report))
    with serve({"GPT_TASKS_MODEL": str(folder)}, folder.with_name("log")) as server:
        yield server


def test_a_model_that_was_not_tuned_for_chat_has_no_dialogue(tiny_server, open_page):
    page = open_page(tiny_server)
    page.fill("#open-ended-text textarea", "hello")
    set_length(page, 5)
    write(page)
    expect(page.locator("#open-ended-figures")).to_contain_text("new tokens", timeout=10_000)
    page.get_by_role("tab", name="Dialogue").click()
    expect(page.locator("#dialogue-off")).to_contain_text("not tuned for chat")
    expect(page.locator("#message")).to_have_count(0)


def test_a_text_longer_than_the_context_loses_its_beginning_visibly(tiny_server, open_page):
    page = open_page(tiny_server)
    page.fill("#open-ended-text textarea", "The rain went on and on. " * 100)
    set_length(page, 4)
    write(page)
    expect(page.locator("#open-ended-figures [role=status]")).to_contain_text("Characters left out", timeout=10_000)
    expect(page.locator("#open-ended-figures")).to_contain_text("length reached", timeout=10_000)
