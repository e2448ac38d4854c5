"""train --compile"""

import json
import shutil

import pytest

from tests.command_line import call, call_anew


def train(folder, data, out, *options, run=call):
    data.mkdir(exist_ok=True)
    for split in ("train", "dev"):
        rows = [{"text": f"{'hello the' if n % 2 else 'what else'} {n}", "label": "ab"[n % 2]} for n in range(60)]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run(
        "train", "--task", "mine", "--data", data, "--out", out, "--model", folder, "--epochs", 12,
        "--tokens-per-batch", 128, "--patience", 99, *options,
    )  # fmt: skip


@pytest.mark.skipif(shutil.which("g++") is None, reason="wants a C++ compiler: apt-get install g++")
def test_compiled_layers_compute_the_same(tiny_folder, tmp_path):
    folder, _ = tiny_folder("llama")
    losses = []
    for out, options in (("plain", {}), ("compiled", {"run": call_anew})):
        asked = ["--compile"] if options else []
        done = train(folder, tmp_path / "data", tmp_path / out, *asked, **options)
        assert done.returncode == 0, done.stderr
        log = map(json.loads, (tmp_path / out / "log.jsonl").read_text().splitlines())
        losses.append([entry["loss"] for entry in log if "loss" in entry])
    assert len(losses[0]) > 3
    assert losses[1] == pytest.approx(losses[0], rel=0.03)  # of bf16, where the machine has it
    assert "--compile" in (tmp_path / "compiled" / "README.md").read_text()


def test_without_a_compiler(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    done = train(tiny_folder("llama")[0], tmp_path / "data", tmp_path / "out", "--compile")
    assert done.returncode == 2
    assert "no-such-compiler isn't found" in done.stderr and "leave --compile out" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
