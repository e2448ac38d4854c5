"""The page as a whole: before the model is ready, in another language, on a phone, in memory, from a program."""

import re
import subprocess
import sys
import time

from playwright.sync_api import expect

from gpt_tasks.backbone.default_model import default_gguf
from tests.ui.actions import PROMPT, open_tab, set_length, write
from tests.ui.conftest import PROJECT, serve


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
