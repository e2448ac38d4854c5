"""`quantize` and what surrounds it: an artifact as a source, refusals, dry runs, onnxruntime-genai."""

import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compression.artifact_model import artifact_model
from compression.export import Request, export
from compression.model_or_artifact import open_model_or_artifact
from compression.parity import greedy as write_greedily
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from tests import tiny_models


def call(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "compression", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("variant", tiny_models.VARIANTS)
def test_an_artifacts_weights_are_the_models(variant, tiny_folder, tiny_artifact):
    model = open_model(str(tiny_folder(variant)[0]))
    again = artifact_model(tiny_artifact(variant)[0])
    assert set(again.weights) == set(model.weights)
    assert again.config == model.config
    for name, weight in model.weights.items():
        np.testing.assert_array_equal(again.weights[name], weight, err_msg=name)


def test_quantizing_an_artifact_gives_what_exporting_the_model_gives(tiny_folder, tiny_artifact, tmp_path):
    source = tiny_artifact("llama")[0]
    done = call("quantize", source.folder, tmp_path / "out", "--precision", "int8", "--precision", "int4", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["checks"]) == {"int8", "int4"}
    for name, facts in report["files"].items():
        if name.startswith("onnx/"):
            expected = {**source.report["files"][name], "bytes": facts["bytes"]}
            assert facts["sha256"] == expected["sha256"], name


def test_what_quantize_refuses(tiny_folder, tiny_artifact, tmp_path):
    source = tiny_artifact("gpt2")[0]
    quantized = export(artifact_model(source), tmp_path / "int8", Request(["int8_blocks"]))
    for arguments, message in (
        ((quantized.folder, tmp_path / "out"), "quantized numbers, which are not quantized again"),
        ((tiny_folder("gpt2")[0], tmp_path / "out"), "not an exported model"),
        ((source.folder, source.folder), "its fp32 would be lost"),
        ((source.folder, source.folder / "below"), "its fp32 would be lost"),
        ((source.folder, tmp_path / "out", "--size-mb", "inf"), "less than a million"),
        ((source.folder, tmp_path / "out", "--precision", "int8", "--size-mb", "1"), "is for int4 and int4_fast"),
        ((source.folder, tmp_path / "out", "--precision", "int4", "--calibrated", "x"), "is for int8"),
        ((source.folder, tmp_path / "out", "--precision", "int4", "--mean-kl", "1e-9"), "Allow a larger --mean-kl"),
        ((source.folder, tmp_path / "out", "--precision", "fp32"), "invalid choice: 'fp32'"),
        ((source.folder, tmp_path / "out", "--size-mb", "-1"), "must be larger than 0"),
        ((source.folder, tmp_path / "out", "--precision", "int4", "--size-mb", "0.05"), "Allow a larger size"),
        ((source.folder, tmp_path / "out", "--precision", "int4", "--genai-precision", "int8"), "not among"),
        ((source.folder, tmp_path / "out", "--calibrated", tmp_path / "none"), "There is no file"),
        ((source.folder, "/proc/out", "--precision", "int8_blocks"), "can't be written"),
    ):
        done = call("quantize", *arguments)
        assert done.returncode == 2 and message in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="not quantized again"):
        open_model_or_artifact(str(quantized.folder))


def test_a_dry_run_says_sizes_and_does_nothing(tiny_artifact, tmp_path):
    source = tiny_artifact("llama")[0].folder
    for command in ("export", "quantize"):
        done = call(command, source, tmp_path / "out", "--precision", "int4", "--dry-run", "--json")
        plan = json.loads(done.stdout)
        assert plan["calibrates"] == ["int4"] and plan["size_mb"]["int4"] > 0 and plan["memory_mb"] > 0
        assert "Nothing was done" in call(command, source, tmp_path / "out", "--dry-run").stdout
    assert list(tmp_path.iterdir()) == []
    assert "would be checked against" in call("check", source, "--dry-run").stdout
    assert "too short for the measurement" in call("bench", source, "--dry-run").stderr
    for task in ("classify", "extract"):  # the shipped ones are the default model's
        refused = call("bench", source, "--task", task, "--dry-run")
        assert refused.returncode == 2 and ("another" in refused.stderr or "don't belong" in refused.stderr)
    assert "can't be written" in call("export", source, "/proc/out", "--dry-run").stderr
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert "left alone" in call("export", source, tmp_path / "out", "--dry-run").stderr


def test_what_is_not_an_export_is_never_replaced(tiny_artifact, tmp_path):
    model, request = artifact_model(tiny_artifact("llama")[0]), Request(["int8_blocks"])
    for content in ("{}", "{", '{"format": 2}'):
        (tmp_path / "report.json").write_text(content)
        with pytest.raises(UserError, match="left alone"):
            export(model, tmp_path, request)
        assert (tmp_path / "report.json").read_text() == content
    out = export(model, tmp_path / "out", request).folder
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files too, such as notes"):
        export(model, out, request)
    assert (out / "notes.txt").read_text() == "mine"
    done = call("calibrate", tiny_artifact("llama")[0].folder, out / "notes.txt")
    assert done.returncode == 2 and "no calibration" in done.stderr
    assert (out / "notes.txt").read_text() == "mine"


def test_a_link_is_followed(tiny_artifact, tmp_path):
    model = artifact_model(tiny_artifact("llama")[0])
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for _ in range(2):
        export(model, tmp_path / "link", Request(["int8_blocks"]))
        assert (tmp_path / "link").is_symlink() and Artifact(tmp_path / "target").precisions == ["int8_blocks"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


def test_damaged_artifacts_and_those_of_another_version(tiny_artifact, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_artifact("llama")[0].folder, folder)
    graph = folder / "onnx" / "model.onnx"
    graph.write_bytes(b"\xff" * graph.stat().st_size)
    with pytest.raises(UserError, match="is damaged"):
        artifact_model(Artifact(folder))
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**report, "format": 99}))
    with pytest.raises(UserError, match="another version"):
        Artifact(folder)


def test_a_configuration_that_does_not_fit_the_weights(tiny_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama")[0], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_key_value_heads": 4}))
    with pytest.raises(UserError, match=r"attention.key.weight has the shape \(32, 64\)"):
        export(open_model(str(folder)), tmp_path / "out", Request(["fp32"]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(value, tiny_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama")[0], folder)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name][3, 5] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    for precision in ("fp32", "int8", "int4"):
        with pytest.raises(UserError, match=f"{name} has NaN or infinite weights"):
            export(open_model(str(folder)), tmp_path / "out", Request([precision]))
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_model_is_refused(tiny_folder, tmp_path, default_artifact):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama")[0], folder)
    shutil.copyfile(default_artifact.folder / "tokenizer.json", folder / "tokenizer.json")
    with pytest.raises(UserError, match="49152 tokens, but the model has 300"):
        export(open_model(str(folder)), tmp_path / "out", Request(["fp32"]))


def test_the_genai_configuration_names_int8_unless_told_otherwise(tiny_artifact, tmp_path):
    source = tiny_artifact("llama")[0]
    config = json.loads((source.folder / "genai_config.json").read_text())
    assert config["model"]["decoder"]["filename"] == "onnx/model_int8.onnx"
    assert config["model"]["decoder"]["num_key_value_heads"] == 2
    request = Request(["int8_blocks", "fp32"], genai_precision="fp32")
    other = export(artifact_model(source), tmp_path / "out", request)
    config = json.loads((other.folder / "genai_config.json").read_text())
    assert config["model"]["decoder"]["filename"] == "onnx/model.onnx"


TEXT = "The capital of France: 1234 né — hello\n  world? 😀 日本"


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_genai") is None,
    reason="pip install --no-deps onnxruntime-genai to run the exported folders in it",
)
class TestGenai:
    """In a process of its own: the package brings its own native code."""

    SCRIPT = """
import json, sys
import onnxruntime_genai as genai
folder, text, new = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = genai.Model(folder)
ids = genai.Tokenizer(model).encode(text).tolist()
parameters = genai.GeneratorParams(model)
parameters.set_search_options(do_sample=False, max_length=len(ids) + new)
generator = genai.Generator(model, parameters)
generator.append_tokens(ids)
while not generator.is_done():
    generator.generate_next_token()
print(json.dumps([ids, generator.get_sequence(0).tolist()[len(ids):]]))
"""

    def run(self, folder, text, new):
        done = subprocess.run(
            [sys.executable, "-c", self.SCRIPT, str(folder), text, str(new)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().split("\n")[-1])

    def test_the_default_models_ids_and_text(self, default_artifact):
        ids, written = self.run(default_artifact.folder, TEXT, 12)
        assert ids == default_artifact.load_tokenizer().encode(TEXT)
        expected = write_greedily(OrtEngine(default_artifact, "int8"), ids, 12)
        assert written == expected[: len(written)] and len(written) > 3

    @pytest.mark.parametrize("variant", ["llama", "qwen2", "gpt2"])
    @pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
    def test_every_precision(self, variant, precision, tiny_artifact, tmp_path):
        source = tiny_artifact(variant)[0]
        folder = tmp_path / "copy"
        shutil.copytree(source.folder, folder)
        config = json.loads((folder / "genai_config.json").read_text())
        config["model"]["decoder"]["filename"] = str(Artifact(folder).graph_path(precision).relative_to(folder))
        (folder / "genai_config.json").write_text(json.dumps(config))
        ids, written = self.run(folder, "hello the hello", 8)
        assert ids == source.load_tokenizer().encode("hello the hello")
        assert written == write_greedily(OrtEngine(source, precision), ids, 8)[: len(written)]
