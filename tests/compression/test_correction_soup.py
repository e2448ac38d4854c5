"""The mean of corrections."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compression.variants import CORRECTIONS, shipped_correction
from gpt_tasks.backbone.adapter import ADAPTER_FILE, CONFIG_FILE
from tests.test_compression_commands import compress


@pytest.fixture
def corrections(tmp_path):
    """Two, small, for the same modules."""
    random, folders = np.random.default_rng(0), []
    for name in ("one", "other"):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        shutil.copyfile(CORRECTIONS / "half-depth" / CONFIG_FILE, folders[-1] / CONFIG_FILE)
        tensors = {f"m.lora_{part}.weight": random.normal(size=(3, 2)).astype(np.float16) for part in "AB"}
        save_file(tensors, folders[-1] / ADAPTER_FILE)
    return folders


def test_matrices_are_means(corrections, tmp_path):
    done = compress("average", *corrections, "--out", tmp_path / "both")
    assert done.returncode == 0, done.stderr
    one, other = (load_file(folder / ADAPTER_FILE) for folder in corrections)
    both = load_file(tmp_path / "both" / ADAPTER_FILE)
    assert both.keys() == one.keys()
    for name, mean in both.items():
        assert mean.dtype == np.float16
        np.testing.assert_allclose(mean, (one[name].astype(float) + other[name].astype(float)) / 2, atol=1e-3)
    assert json.loads((tmp_path / "both" / CONFIG_FILE).read_text())["r"] == 30
    assert str(corrections[1]) in (tmp_path / "both" / "README.md").read_text()
    assert compress("average", *corrections, "--out", tmp_path / "both").returncode == 0  # its own is replaced


def test_a_shipped_one_with_itself_is_itself(tmp_path):
    done = compress("average", "half-depth", "half-depth", "--out", tmp_path / "same")
    assert done.returncode == 0, done.stderr
    shipped = load_file(shipped_correction("half-depth") / ADAPTER_FILE)
    for name, tensor in load_file(tmp_path / "same" / ADAPTER_FILE).items():
        np.testing.assert_array_equal(tensor, shipped[name])


@pytest.mark.parametrize(
    "named, said",
    [
        (["{one}"], "at least two"),
        (["half-depth", "pruned-30"], "(r, lora_alpha"),
        (["{one}", "half-depth"], "(its matrices)"),
        (["{one}", "no-such"], "no correction no-such"),
        (["{one}", "{broken}"], "can't be read as a LoRA adapter"),
        (["{one}", "{one}", "--out", "{one}/.."], "left alone"),
    ],
)
def test_nonsense_is_explained(corrections, tmp_path, named, said):
    broken = tmp_path / "broken"
    shutil.copytree(corrections[0], broken)
    (broken / ADAPTER_FILE).write_bytes(b"x")
    filled = [part.format(one=corrections[0], broken=broken) for part in named]
    done = compress("average", "--out", tmp_path / "both", *filled)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "both").exists()
