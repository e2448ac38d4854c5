"""Exported folders in transformers.js under Node: the same token ids, the same greedy tokens."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from compression.optimum_route.checkpoint import other_checkpoint
from compression.optimum_route.export import OptimumRequest, export_by_optimum
from compression.parity import greedy
from gpt_tasks.backbone.artifact import GRAPH_FILES, Artifact
from gpt_tasks.backbone.ort_engine import OrtEngine
from tests.compression.optimum_route import other_models

PROMPT = "Once upon a time, in a small village by the sea,"
_DTYPES = {"fp32": "fp32", "int8": "int8", "int8_blocks": "q8", "int4": "q4"}
"""transformers.js finds the file by these; the others are named in full"""


def generate(javascript_folder, folder, requests):
    done = subprocess.run(
        ["node", "generate.mjs", str(folder)],
        cwd=javascript_folder,
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().split("\n")[-1])


def request(precision, prompt, tokens):
    if precision in _DTYPES:
        return {"file": "model", "dtype": _DTYPES[precision], "prompt": prompt, "tokens": tokens}
    stem = GRAPH_FILES[precision].removeprefix("onnx/").removesuffix(".onnx")
    return {"file": stem, "dtype": "fp32", "prompt": prompt, "tokens": tokens}


def same_as_ours(javascript_folder, artifact, prompt, tokens):
    tokenizer = artifact.load_tokenizer()
    requests = [request(precision, prompt, tokens) for precision in artifact.precisions]
    results = generate(javascript_folder, artifact.folder, requests)
    ids = tokenizer.encode(prompt)
    for precision, result in zip(artifact.precisions, results, strict=True):
        assert result["prompt"] == ids
        expected = greedy(OrtEngine(artifact, precision), ids, tokens)
        end = next((i for i, token in enumerate(expected) if token in artifact.end_ids), tokens - 1)
        assert result["written"] == expected[: end + 1], precision


@pytest.mark.parametrize("variant", ["llama", "llama_biases", "qwen2", "gpt2"])
def test_every_precision_of_a_tiny_model(javascript_folder, tiny_artifact, variant):
    same_as_ours(javascript_folder, tiny_artifact(variant)[0], "hello the world", 12)


def test_the_default_model(javascript_folder, default_artifact):
    same_as_ours(javascript_folder, default_artifact, PROMPT, 24)


def test_every_precision_of_a_large_export(javascript_folder):
    """Such as all six of the default model, whose export takes too long for every run."""
    folder = os.environ.get("GPT_TASKS_EXPORTED")
    if folder is None:
        pytest.skip("name a folder of `python -m compression export default FOLDER` in GPT_TASKS_EXPORTED to run it")
    same_as_ours(javascript_folder, Artifact(Path(folder)), PROMPT, 24)


def run_readme(javascript_folder, folder):
    [example] = re.findall(r"```js\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    example = example.replace("THE_FOLDER_ABOVE_THIS_ONE", str(folder.parent)).replace("THIS_FOLDER", folder.name)
    done = subprocess.run(
        ["node", "--input-type=module", "-e", example.replace("Once upon a time", "hello <unused0>")],
        cwd=javascript_folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_readmes_example(javascript_folder, tiny_artifact):
    assert "generated_text" in run_readme(javascript_folder, tiny_artifact("llama")[0].folder)


@pytest.mark.parametrize(
    ("family", "expected"), [("gpt_neox", "generated_text"), ("distilbert", "LABEL_"), ("t5", "generated_text")]
)
def test_models_that_went_through_optimum(javascript_folder, tmp_path, family, expected):
    other_models.save(family, tmp_path / "checkpoint")
    checkpoint = other_checkpoint(str(tmp_path / "checkpoint"), None)
    for precision in ("fp32", "int8", "int4"):
        export_by_optimum(
            checkpoint, tmp_path / precision, OptimumRequest([precision], ["hello the world"], check=False)
        )
        assert expected in run_readme(javascript_folder, tmp_path / precision), precision
