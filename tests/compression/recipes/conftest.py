"""What the tests of recipes start from: a tiny model, a text, a cache folder of their own."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from compression.calibration_text import default_calibration_text
from tests import tiny_models


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        **{**tiny_models.LLAMA, "num_hidden_layers": 4, "max_position_embeddings": 640},
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_models.make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the hello hell the " * 3000)
    return str(path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path / "home"))
    # A tenth of the calibration text: what is chosen by it is tested elsewhere.
    short = default_calibration_text()[:2000]
    for module in ("compression.export", "compression.pruning.prune"):
        monkeypatch.setattr(f"{module}.default_calibration_text", lambda: short)
