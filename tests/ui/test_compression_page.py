"""The tabs Compress and Compare, on the real page."""

import re
import zipfile

import pytest
import torch
from playwright.sync_api import expect
from transformers import AutoModelForCausalLM, LlamaConfig

from compression.export import Request, export
from gpt_tasks.backbone.weights import open_model
from tests import tiny_models
from tests.ui.actions import open_tab, write
from tests.ui.conftest import serve

_LONG = 120_000  # milliseconds: a tiny model is pruned, exported and measured


@pytest.fixture(scope="module")
def server(default_artifact, tmp_path_factory):
    """The page on a tiny model, so that a job takes seconds. (The default model's weights are there for recipes.)"""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    config = LlamaConfig(**{**tiny_models.LLAMA, "max_position_embeddings": 640}, tie_word_embeddings=True)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_models.make_tokenizer().save_pretrained(folder)
    export(open_model(str(folder)), folder / "onnx", Request(["fp32", "int8"]))
    with serve({"GPT_TASKS_MODEL": str(folder / "onnx")}, folder / "log") as running:
        yield running


def choose_model(page, name):
    page.locator("#compressed-model input").click()
    page.get_by_role("option", name=name).click()


def test_own_steps_are_run_and_reported(server, open_page, tmp_path):
    page = open_page(server)
    open_tab(page, "Compress")
    plan = page.locator("#plan")
    expect(plan).to_contain_text("1-export", timeout=60_000)
    expect(page.get_by_label("half-depth-distilled-int8")).to_have_count(0)  # made for the default model
    choose_model(page, "SmolLM2")
    page.get_by_label("half-depth-distilled-int8").check()
    expect(plan).to_contain_text("2-recover")
    expect(plan).to_contain_text("81.4")
    choose_model(page, "the model of this page")
    expect(plan).not_to_contain_text("2-recover")
    page.get_by_label("own steps").check()
    page.locator("#pruning input").click()
    page.get_by_role("option", name="layers").click()
    expect(plan).to_contain_text("1-prune")
    write(page)
    expect(page.locator("#compress-figures")).to_contain_text(re.compile(r"step \d of \d"), timeout=60_000)
    frame = page.frame_locator("iframe.report")
    expect(frame.locator("h1")).to_contain_text("own-", timeout=_LONG)
    expect(frame.locator("table").first).to_contain_text("int8_blocks")
    with page.expect_download() as download:
        page.locator("#download-model").click()
    download.value.save_as(tmp_path / "model.zip")
    names = zipfile.ZipFile(tmp_path / "model.zip").namelist()
    assert "report.json" in names and "onnx/model_quantized.onnx_data" in names


def test_a_job_can_be_stopped(server, open_page):
    page = open_page(server)
    open_tab(page, "Compress")
    choose_model(page, "SmolLM2")
    page.get_by_label("int4", exact=True).check()
    write(page)
    expect(page.locator("#compress-figures")).to_contain_text("step 1", timeout=60_000)
    another_visitor_waits(open_page(server))
    expect(page.locator("#compress-figures")).to_contain_text("step 1")
    page.locator("button.stop:visible").click()
    expect(page.locator("#compress-figures")).to_contain_text("what was done is kept", timeout=60_000)
    expect(page.locator("button.start:visible")).to_be_enabled()


def another_visitor_waits(page):
    open_tab(page, "Compress")
    expect(page.locator("#plan")).to_contain_text("1-export", timeout=60_000)
    write(page)
    expect(page.locator("#compress-figures")).to_contain_text("waiting for its turn", timeout=60_000)
    page.locator("button.stop:visible").click()
    expect(page.locator("#compress-figures")).to_contain_text("stopped", timeout=60_000)
    open_tab(page, "Compare")  # which needs no job here
    write(page)
    expect(page.locator("#answers .card")).to_have_count(2, timeout=120_000)


def test_a_choice_without_a_precision_is_refused(server, open_page):
    page = open_page(server)
    open_tab(page, "Compress")
    expect(page.locator("#plan")).to_contain_text("1-export", timeout=60_000)  # the tab's choices are all there
    page.get_by_label("own steps").check()
    page.get_by_label("int8_blocks").uncheck()
    expect(page.locator("#plan")).to_contain_text("at least one precision")
    write(page)
    expect(page.locator("#compress-figures")).to_contain_text("at least one precision")


def test_variants_answer_side_by_side(server, open_page):
    page = open_page(server)
    open_tab(page, "Compare")
    expect(page.locator("#variants")).to_contain_text("fp32", timeout=60_000)
    write(page)
    cards = page.locator("#answers .card")
    expect(cards).to_have_count(2, timeout=120_000)
    expect(page.locator("button.start:visible")).to_be_enabled(timeout=120_000)
    expect(cards.nth(0)).to_contain_text("tokens/s")
    expect(cards.nth(1)).to_contain_text(re.compile("differs from token|the same text"))


def test_one_variant_is_not_compared(server, open_page):
    page = open_page(server, viewport={"width": 390, "height": 800})
    open_tab(page, "Compare")
    expect(page.locator("#variants")).to_contain_text("fp32", timeout=60_000)
    page.locator("#variants").get_by_role("button", name="Remove").first.click()
    write(page)
    expect(page.locator("#compare-figures")).to_contain_text("Choose 2 to 4 variants")
