"""A visitor writes, stops, chats, goes away; and comes before the model is ready."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from gpt_tasks.backbone.default_model import default_gguf
from tests.ui.actions import open_tab, write
from tests.ui.conftest import PROJECT, serve

PROMPT = "Once upon a time, in a small village by the sea,"


def set_number(page, name, value):
    field = page.locator(f".settings:visible input[aria-label='number input for {name}']")
    if not field.is_visible():
        page.locator(".settings:visible > button").click()
    field.fill(str(value))
    field.press("Tab")


def set_length(page, tokens):
    set_number(page, "Length", tokens)


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


def test_a_chinese_browser_gets_chinese(server, open_page):
    page = open_page(server, locale="zh-CN")
    expect(page.get_by_role("tab", name="续写")).to_be_visible()
    write(page)
    expect(page.locator("#open-ended-figures [role=alert]")).to_contain_text("文本是空的")
    assert "__i18n__" not in page.inner_text("body")
    page.get_by_role("tab", name="命题写作").click()
    page.locator("#form input").click()
    expect(page.get_by_role("option", name="诗歌")).to_be_visible()


def test_it_fits_a_phone(server, open_page):
    page = open_page(server, viewport={"width": 390, "height": 844})
    for tab in ("On a topic", "Dialogue", "Classify", "Teach", "Open-ended"):
        open_tab(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_visitor_who_comes_before_the_model(open_page, tmp_path):
    """On an empty cache the page is there at once, says what is being prepared, and then writes."""
    environment = {"GPT_TASKS_HOME": str(tmp_path / "home"), "GPT_TASKS_GGUF": str(default_gguf())}
    with serve(environment, tmp_path / "log") as server:
        assert server.seconds_to_answer < 10  # 5 on a machine that does nothing else
        page = open_page(server)
        status = page.locator("#status")
        expect(status).to_contain_text(re.compile("Checking the weights|Building the model|Loading"), timeout=10_000)
        page.fill("#open-ended-text textarea", PROMPT)
        write(page)
        expect(page.locator("#open-ended-figures [role=alert]")).to_contain_text("still being prepared")
        open_tab(page, "Compare")
        expect(status).to_be_hidden(timeout=120_000)
        expect(page.locator("#variants")).to_contain_text("fp32", timeout=10_000)
        open_tab(page, "Open-ended")
        write(page)
        expect(page.locator("#open-ended-figures")).to_contain_text("new tokens", timeout=15_000)


def test_a_failure_to_prepare_is_said_on_the_page(open_page, tmp_path):
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"GGUF?")
    environment = {"GPT_TASKS_HOME": str(tmp_path / "home"), "GPT_TASKS_GGUF": str(wrong)}
    with serve(environment, tmp_path / "log") as server:
        page = open_page(server)
        expect(page.locator("#status")).to_contain_text("is not the file that this version was made for")
        expect(page.locator("#retry")).to_be_visible()
        page.locator("#retry").click()
        expect(page.locator("#status")).to_contain_text("is not the file that this version was made for")


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


def test_the_readmes_client_example(server):
    """The API as the README shows it."""
    readme = (PROJECT / "README.md").read_text("utf-8")
    example = next(code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "gradio_client" in code)
    done = subprocess.run(
        [sys.executable, "-c", example.replace("http://127.0.0.1:7860", server.url)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "balance" in done.stdout
    assert "Tim Cook PER" in done.stdout
    assert "John Wilkes Booth - Kill - Abraham Lincoln" in done.stdout
    assert "laughed" in done.stdout and "Business" in done.stdout
    assert "cooking" in done.stdout and "complaint" in done.stdout


def test_idle_memory(default_artifact, open_page, tmp_path):
    with serve({}, tmp_path / "log") as server:
        page = open_page(server)
        expect(page.locator("#status")).to_be_hidden(timeout=20_000)
        page.fill("#open-ended-text textarea", PROMPT)
        set_length(page, 5)
        write(page)
        expect(page.locator("#open-ended-figures")).to_contain_text("new tokens: 5", timeout=10_000)
        time.sleep(1)
        assert server.resident_megabytes() <= 450
        open_tab(page, "Classify")
        page.fill("#classify-text textarea", PROMPT)
        write(page)
        expect(page.locator("#classify-figures")).to_contain_text("ms", timeout=10_000)
        open_tab(page, "Extract")
        page.fill("#extract-text textarea", PROMPT * 50)
        write(page)
        expect(page.locator("#extract-figures")).to_contain_text("ms", timeout=20_000)
        open_tab(page, "Teach")
        write(page)
        expect(page.locator("#teach-figures")).to_contain_text("accuracy", timeout=20_000)
        page.close()
        time.sleep(1)
        assert server.resident_megabytes() <= 600


def test_serving_imports_neither_torch_nor_transformers():
    code = (
        "import sys, app; from gpt_tasks.ui.page import build_page; build_page(app.BackboneInBackground());"
        "bad = {'torch', 'transformers', 'onnx', 'gguf', 'optimum'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
