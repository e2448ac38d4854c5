"""prune, distill, run and report, as a person calls them, nonsense included."""

import json
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.command_line import call

TEXT = "the hello hell the " * 600


def compress(*arguments, **environment):
    return call(*arguments, program="compression", **environment)


@pytest.fixture
def tiny(tiny_folder):
    return tiny_folder("llama")[0]


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


def test_pruned_then_distilled_then_exported(tiny, text, tmp_path):
    home = {"GPT_TASKS_HOME": str(tmp_path / "home")}
    done = compress(
        "prune", tiny, tmp_path / "two", "--method", "depth", "--sparsity", "0.34", "--text", text, "--json"
    )
    facts = json.loads(done.stdout)
    assert len(facts["layers_kept"]) == 2 and facts["parameters"] < facts["parameters_before"]
    options = ["--text", text, "--window", 32, "--tokens", 512, "--tokens-per-batch", 128, "--progress", "none"]
    done = compress("distill", tiny, tmp_path / "taught", "--student", tmp_path / "two", *options, **home)
    assert "perplexity" in done.stdout, done.stderr
    again = compress("distill", tiny, tmp_path / "taught", "--student", tmp_path / "two", *options, **home)
    assert again.returncode == 0  # a checkpoint of ours is replaced
    done = compress("export", tmp_path / "taught", tmp_path / "onnx", "--precision", "fp32")
    assert done.returncode == 0, done.stderr


def test_zeros_are_reported_for_what_they_are(tiny, tmp_path):
    done = compress("prune", tiny, tmp_path / "out", "--method", "magnitude", "--pattern", "2:4")
    assert "50.0 % of the layers' weights are zero, which saves no time" in done.stdout


def test_what_was_really_taken_out_is_said(tiny, tmp_path):
    done = compress("prune", tiny, tmp_path / "out", "--method", "attention", "--sparsity", "0.9")
    assert "50.0 % of the key/value heads were taken out (asked for: 90.0 %)" in done.stdout, done.stderr


def test_the_teacher_writes_the_text(tiny, text, tmp_path):
    options = ["--generated", 200, "--window", 16, "--predictions", 0, "--own-text", 1, "--progress", "json", "--json"]
    home = {"GPT_TASKS_HOME": str(tmp_path / "home")}
    done = compress("distill", tiny, tmp_path / "out", "--student", "every-2nd", "--text", text, *options, **home)
    assert json.loads(done.stdout)["perplexity"] > 1, done.stderr
    assert '"stage": "writing"' in done.stderr
    again = compress("distill", tiny, tmp_path / "again", "--student", "every-2nd", "--text", text, *options, **home)
    assert again.stdout == done.stdout and '"stage": "writing"' not in again.stderr  # it is kept in the cache folder


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["prune", "{tiny}", "{out}", "--method", "wanda", "--sparsity", "1.2"], "sparsity must be more than 0"),
        (["prune", "{tiny}", "{out}", "--method", "depth", "--keep-layers", "0,9"], "from 0 to 2"),
        (["prune", "{tiny}", "{tiny}/..", "--method", "magnitude"], "left alone"),
        (["prune", "{tiny}", "{out}", "--method", "wanda", "--text", "{out}"], "can't be read"),
        (["distill", "{tiny}", "{out}", "--text", "{text}", "--temperature", "0"], "temperature"),
        (["distill", "{tiny}", "{out}", "--text", "{text}", "--layers", "2"], "of a fresh student, not of every-2nd"),
        (["prune", "{tiny}", "{out}", "--method", "magnitude", "--text", "{text}"], "a text to decide by is for"),
        (["run"], "--options"),
        (["report", "{tiny}", "--out", "{out}"], "results.json"),
    ],
)
def test_nonsense_is_explained_and_leaves_nothing(tiny, text, tmp_path, arguments, said):
    out = tmp_path / "out"
    filled = [part.format(tiny=tiny, text=text, out=out) for part in arguments]
    done = compress(*filled, GPT_TASKS_HOME=str(tmp_path / "home"))
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not out.exists()


def test_a_recipe_is_planned_run_and_reported(tiny, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump({"model": str(tiny), "steps": [{"export": {"precision": ["fp32"]}}]}))
    planned = compress("run", recipe, "--out", tmp_path / "out", "--dry-run", "--json")
    assert json.loads(planned.stdout)["steps"][0]["title"] == "1-export"
    assert not (tmp_path / "out").exists()
    done = compress("run", recipe, "--out", tmp_path / "out", "--progress", "none")
    assert "step 1 of 1: export" in done.stderr and "mine fp32" in done.stdout
    assert (tmp_path / "out" / "report.html").is_file()
    again = compress("run", recipe, "--out", tmp_path / "out", "--resume", "--progress", "none")
    assert "export (unchanged)" in again.stderr
    done = compress("report", tmp_path / "out", "--out", tmp_path / "all")
    assert done.returncode == 0 and (tmp_path / "all.png").is_file()
    assert "sparsity" in compress("run", "--options").stdout


def test_ctrl_c_leaves_a_run_that_goes_on(tiny, text, tmp_path):
    teaching = {"text": str(text), "window": 32, "tokens_per_batch": 32, "epochs": 500}
    steps = [
        {"prune": {"method": "depth", "layers": [0, 2]}},
        {"recover": teaching},
        {"export": {"precision": ["fp32"]}},
    ]
    recipe = tmp_path / "long.yaml"
    recipe.write_text(yaml.safe_dump({"model": str(tiny), "steps": steps}))
    command = [
        sys.executable,
        "-m",
        "compression",
        "run",
        str(recipe),
        "--out",
        str(tmp_path / "out"),
        "--progress",
        "json",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        for line in running.stderr:
            if '"training"' in line:
                break
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
    assert running.returncode == 130 and "Traceback" not in rest
    left = sorted(path.name for path in (tmp_path / "out" / "steps").iterdir())
    assert left == ["1-prune", "1-prune.json", "2-recover.begun", "2-recover.training"]
