"""Fixtures that many tests share. The default model is prepared once, in $GPT_TASKS_HOME or the user's cache."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from compression.export import Request, export
from compression.precisions import PRECISIONS
from gpt_tasks.backbone.backbone import Backbone
from gpt_tasks.backbone.prepare import prepare
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.home import only_one, writable_home
from tests import tiny_models

torch.set_num_threads(2)

_JAVASCRIPT = Path(__file__).parent / "compression" / "javascript"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Chromium asks its maker's hosts for this and that when it starts; these keep it quiet.
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def default_artifact():
    return prepare()


@pytest.fixture(scope="session")
def default_backbone(default_artifact):
    return Backbone(default_artifact)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A function: variant -> a checkpoint folder as transformers writes it, and the reference model."""
    made = {}

    def make(variant):
        if variant not in made:
            folder = tmp_path_factory.mktemp(variant)
            made[variant] = folder, tiny_models.save(variant, folder)
        return made[variant]

    return make


@pytest.fixture(scope="session")
def tiny_artifact(tiny_folder, tmp_path_factory):
    """A function: variant -> its artifact in every precision, and the reference model."""
    made = {}

    def make(variant):
        if variant not in made:
            folder, reference = tiny_folder(variant)
            out = tmp_path_factory.mktemp("exported") / variant
            made[variant] = (
                export(open_model(str(folder)), out, Request(list(PRECISIONS))),
                reference,
            )
        return made[variant]

    return make


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: 'apt-get install chromium' brings it, and with it the browser tests")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def javascript_folder():
    """A folder with transformers.js in `node_modules`, and our scripts for it; in the cache, since it is large."""
    if shutil.which("npm") is None:
        pytest.skip("no Node.js on this machine: 'apt-get install nodejs npm' brings it, and with it these tests")
    folder = writable_home() / "test-javascript"
    folder.mkdir(exist_ok=True)
    with only_one(folder, "install"):
        wanted = (_JAVASCRIPT / "package.json").read_text()
        installed = folder / "package.json"
        for script in _JAVASCRIPT.glob("*.mjs"):
            shutil.copyfile(script, folder / script.name)
        if not (folder / "node_modules").is_dir() or installed.read_text() != wanted:
            installed.write_text(wanted)
            # Its packages' install scripts fetch from other hosts what a CPU doesn't need.
            subprocess.run(
                ["npm", "install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--silent"],
                cwd=folder,
                check=True,
                timeout=300,
            )
    return folder
