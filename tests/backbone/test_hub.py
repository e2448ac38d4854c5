"""Models on a hub, with the hub's own client against a hub on this machine."""

import json
import shutil

import pytest

from compression.optimum_route.checkpoint import other_checkpoint
from compression.push import push, require_repository_name
from gpt_tasks.backbone.weights import open_model, read_model_config
from gpt_tasks.errors import UserError
from tests import tiny_models
from tests.compression.optimum_route import other_models
from tests.hub_server import COMMIT, Hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    made = Hub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", made.url)
    template = f"{made.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.HF_HUB_CACHE", str(tmp_path / "cache"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    yield made
    made.close()


@pytest.fixture
def tiny(hub, tmp_path):
    """The hub has a tiny GPT-2, someone/tiny."""
    tiny_models.save("gpt2", tmp_path / "tiny")
    hub.models["someone/tiny"] = tmp_path / "tiny"
    return tmp_path / "tiny"


def test_a_model_is_fetched_at_one_commit_which_is_recorded(hub, tiny):
    model = open_model("someone/tiny")
    assert model.source == {"kind": "hub", "repository": "someone/tiny", "revision": COMMIT}
    assert model.name == "tiny" and "embedding.weight" in model.weights
    assert hub.asked[0] == "config.json"
    assert open_model("someone/tiny", revision="main").source["revision"] == COMMIT
    assert hub.asked.count("model.safetensors") == 1  # what is there isn't fetched again


def test_only_the_configuration_is_fetched_to_tell_sizes_or_to_refuse(hub, tiny):
    assert read_model_config("someone/tiny").layers == 3
    hub.models["someone/other"] = tiny.with_name("other")
    shutil.copytree(tiny, tiny.with_name("other"))
    (tiny.with_name("other") / "config.json").write_text(json.dumps({"model_type": "mamba99"}))
    with pytest.raises(UserError, match="not supported"):
        open_model("someone/other")
    assert set(hub.asked) == {"config.json"}


def test_a_folder_of_that_name_is_taken_unless_a_revision_is_given(hub, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_models.save("llama", tmp_path / "someone" / "tiny")
    assert open_model("someone/tiny").source == {"kind": "folder"}
    assert open_model("someone/tiny", revision=COMMIT).source["kind"] == "hub"


def test_without_a_network_what_was_fetched_is_enough(hub, tiny):
    open_model("someone/tiny")
    hub.disappear()
    assert open_model("someone/tiny").source["revision"] == COMMIT
    with pytest.raises(UserError, match=r"can't be reached"):
        open_model("someone/else")


def test_what_the_hub_refuses(hub, tiny):
    with pytest.raises(UserError, match="no such model, or it is private"):
        open_model("someone/nothing")
    with pytest.raises(UserError, match="no branch, tag or commit 'v9'"):
        open_model("someone/tiny", revision="v9")
    hub.gated.add("someone/tiny")
    with pytest.raises(UserError, match=r"is gated.*HF_TOKEN"):
        open_model("someone/tiny")


def test_pickled_weights_are_refused_before_anything_is_fetched(hub, tiny):
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin alone.*safe_serialization"):
        open_model("someone/tiny")
    assert hub.asked == []


def test_a_download_that_breaks_off_goes_on_the_next_time(hub, tiny):
    hub.broken.add("model.safetensors")
    with pytest.raises(UserError, match="run the same command"):
        open_model("someone/tiny")
    hub.broken.clear()
    fetched = hub.asked.count("tokenizer.json")
    assert open_model("someone/tiny").source["revision"] == COMMIT
    assert hub.asked.count("tokenizer.json") == fetched


def test_a_model_for_optimum_is_judged_by_its_configuration(hub, tmp_path):
    other_models.save("bert", tmp_path / "bert")
    hub.models["someone/bert"] = tmp_path / "bert"
    checkpoint = other_checkpoint("someone/bert", None)
    assert checkpoint.task.name == "fill-mask" and checkpoint.source["revision"] == COMMIT
    assert checkpoint.weight_bytes == (tmp_path / "bert" / "model.safetensors").stat().st_size
    assert set(hub.asked) == {"config.json"}
    assert (checkpoint.open() / "model.safetensors").is_file()


def test_a_folder_is_uploaded(hub, tiny_artifact, monkeypatch):
    folder = tiny_artifact("llama")[0].folder
    with pytest.raises(UserError, match="HF_TOKEN"):
        require_repository_name("me/exported")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    require_repository_name("me/exported")
    with pytest.raises(UserError, match=r"no write access.*is kept"):
        push(folder, "me/exported", private=True)
    hub.tokens.add("hf_right")
    assert push(folder, "me/exported", private=True) == f"{hub.url}/me/exported"
    assert hub.created["me/exported"]["private"] is True
    uploaded = hub.uploaded["me/exported"]
    assert set(uploaded) == {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert uploaded["onnx/model.onnx"] == (folder / "onnx" / "model.onnx").read_bytes()
    hub.disappear()
    with pytest.raises(UserError, match=r"broke off.*is kept"):
        push(folder, "me/exported", private=True)


@pytest.mark.parametrize("name", ["a/b/c", "white space", "-start", ""])
def test_names_that_no_hub_takes(name):
    with pytest.raises(UserError, match="OWNER/NAME"):
        require_repository_name(name, token_too=False)
