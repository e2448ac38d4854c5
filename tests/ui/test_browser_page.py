"""The static page: a model that runs in the browser itself."""

import re
from functools import partial
from threading import Thread

import numpy as np
import onnx
import onnxruntime
import pytest
from playwright.sync_api import expect

from compression.browser_page.graph import for_browsers
from compression.browser_page.library import library_files
from compression.browser_page.server import make_server
from compression.browser_page.site import write_site
from compression.parity import greedy
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.errors import UserError
from tests.ui.actions import PROMPT


@pytest.fixture
def open_site(browser, javascript_folder, tmp_path):
    """A function: artifact, precision -> its page in Chromium, when the model is loaded."""
    pages, servers, foreign, errors = [], [], [], []

    def open_(artifact, precision):
        site = tmp_path / precision
        write_site(artifact, precision, library_files(javascript_folder / "node_modules"), site)
        server = make_server(site, "127.0.0.1", 0)
        servers.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        page = browser.new_page()
        pages.append(page)
        page.on("request", lambda made: made.url.startswith((url, "blob:", "data:")) or foreign.append(made.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        expect(page.locator("#status")).to_contain_text("Ready", timeout=60_000)
        return page

    yield open_
    for page in pages:  # or it would go on computing
        page.close()
    for server in servers:
        server.shutdown()
        server.server_close()
    assert foreign == [] and errors == []


def write(page, prompt, tokens):
    page.fill("#prompt", prompt)
    page.fill("#temperature", "0")
    page.fill("#length", str(tokens))
    page.click("#write")
    expect(page.locator("#write")).to_be_enabled(timeout=60_000)
    return page.inner_text("#result")


def test_the_default_model_answers_in_the_browser(default_artifact, open_site):
    page = open_site(default_artifact, "int8")
    text = write(page, PROMPT, 12)
    tokenizer = default_artifact.load_tokenizer()
    expected = tokenizer.decode(greedy(OrtEngine(default_artifact, "int8"), tokenizer.encode(PROMPT), 12))
    # WebAssembly rounds in its own way: the same words to begin with.
    assert text.startswith(PROMPT) and text.removeprefix(PROMPT).split()[:3] == expected.split()[:3]
    expect(page.locator("#figures")).to_have_text(re.compile(r"first token \d+ ms · 12 tokens · [\d.]+ tokens/s"))
    page.fill("#length", "2000")
    page.click("#write")
    page.click("#stop")
    expect(page.locator("#write")).to_be_enabled(timeout=20_000)
    page.check("#chat")
    assert not write(page, "Who was Albert Einstein?", 4).startswith("Who")
    page.fill("#prompt", "  ")
    page.click("#write")
    expect(page.locator("#figures")).to_contain_text("is empty")


@pytest.mark.parametrize("precision", ["int4", "int4_fast"])
def test_a_model_in_4_bits(tiny_artifact, open_site, precision):
    artifact = tiny_artifact("gpt2")[0]
    page = open_site(artifact, precision)
    assert len(write(page, "hello the world", 8)) > len("hello the world")


@pytest.mark.parametrize("variant", ["llama", "gpt2_untied_gelu"])
def test_the_rewritten_graph_gives_the_same_logits(tiny_artifact, tmp_path, variant):
    artifact = tiny_artifact(variant)[0]
    config = artifact.config
    empty = np.zeros((1, config.key_value_heads, 0, config.head_size), np.float32)
    ids = np.array([[5, 6, 7, 299]])
    for precision in artifact.precisions:
        graph = artifact.graph_path(precision)
        beside = graph.with_name(f"{precision}.browser.onnx")
        onnx.save(for_browsers(onnx.load(graph, load_external_data=False)), beside)
        logits = []
        for file in (graph, beside):
            session = onnxruntime.InferenceSession(file)
            feed = dict.fromkeys((i.name for i in session.get_inputs()), empty)
            feed |= {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(4)[None]}
            logits.append(session.run(["logits"], {i.name: feed[i.name] for i in session.get_inputs()})[0])
        operators = {node.op_type for node in onnx.load(beside, load_external_data=False).graph.node}
        beside.unlink()
        assert "GatherBlockQuantized" not in operators
        np.testing.assert_allclose(logits[1], logits[0], atol=1e-4)


def test_mistakes(tiny_artifact, tmp_path):
    artifact = tiny_artifact("llama")[0]
    site = partial(write_site, artifact, "int8", [])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="left alone"):
        site(tmp_path / "mine")
    with pytest.raises(UserError, match="has no precision"):
        write_site(artifact, "int3", [], tmp_path / "site")
    with pytest.raises(UserError, match="npm install"):
        library_files(tmp_path)
    site(tmp_path / "site")
    site(tmp_path / "site")  # an older site is replaced
    with make_server(tmp_path, "127.0.0.1", 0) as server, pytest.raises(UserError, match="--port"):
        make_server(tmp_path, "127.0.0.1", server.server_port)
