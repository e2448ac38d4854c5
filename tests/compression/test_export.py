"""Exported folders in other loaders, and what an export refuses."""

import json
import re

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer

from compression.export import Request, export
from compression.parity import greedy as write_greedily
from compression.precisions import PRECISIONS
from gpt_tasks.backbone.artifact import GRAPH_FILES, Artifact
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from tests import tiny_models


def load_in_optimum(artifact, precision="fp32"):
    name = GRAPH_FILES[precision].removeprefix("onnx/")
    return ORTModelForCausalLM.from_pretrained(artifact.folder, subfolder="onnx", file_name=name)


@pytest.mark.parametrize("variant", tiny_models.VARIANTS)
def test_optimum_generates_the_reference_text_single_and_left_padded(variant, tiny_artifact):
    artifact, reference = tiny_artifact(variant)
    tokenizer = AutoTokenizer.from_pretrained(artifact.folder, padding_side="left")
    batch = tokenizer(["hello the hello hello", "the"], return_tensors="pt", padding=True)
    assert batch.attention_mask[1, 0] == 0
    settings = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    expected = reference.generate(**batch, **settings, pad_token_id=1)
    model = load_in_optimum(artifact)
    torch.testing.assert_close(model.generate(**batch, **settings, pad_token_id=1), expected)
    single = tokenizer(["the"], return_tensors="pt")
    torch.testing.assert_close(model.generate(**single, **settings, pad_token_id=1)[0, -12:], expected[1, -12:])


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "fp32"])
def test_optimum_runs_every_precision_single_and_left_padded(precision, tiny_artifact):
    artifact, _ = tiny_artifact("llama")
    tokenizer, model = artifact.load_tokenizer(), load_in_optimum(artifact, precision)
    prompts = [tokenizer.encode(text) for text in ("hello the hello hello", "the hello")]
    settings = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 1}
    expected = [write_greedily(OrtEngine(artifact, precision), prompt, 8) for prompt in prompts]
    for prompt, written in zip(prompts, expected, strict=True):
        assert model.generate(torch.tensor([prompt]), **settings)[0, len(prompt) :].tolist() == written
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    assert max(padding) > 0
    ids = torch.tensor([[1] * pad + prompt for pad, prompt in zip(padding, prompts, strict=True)])
    mask = (torch.arange(longest) >= torch.tensor(padding)[:, None]).long()
    out = model.generate(ids, attention_mask=mask, **settings)
    assert out[:, longest:].tolist() == expected


def test_optimum_generates_the_default_models_text(default_artifact, default_backbone):
    """The reference's greedy tokens (llama.cpp's, of the same weights), in a batch that pads one of two prompts."""
    rows = [
        ([504, 3575, 282, 4649, 314], [7042, 30, 198, 198, 504, 2988, 314, 42]),
        ([6403, 1980, 253, 655, 28, 281, 253, 1165, 6560, 411, 260, 3426, 28], [665, 436, 253, 9357, 1573]),
    ]
    model = load_in_optimum(default_artifact)
    for ids, greedy in rows:
        out = model.generate(torch.tensor([ids]), max_new_tokens=len(greedy), do_sample=False)
        assert out[0, len(ids) :].tolist() == greedy
    pad = len(rows[1][0]) - len(rows[0][0])
    ids = torch.tensor([[2] * pad + rows[0][0], rows[1][0]])
    mask = (torch.arange(ids.shape[1]) >= torch.tensor([[pad], [0]])).long()
    out = model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False)
    assert out[0, ids.shape[1] :].tolist() == rows[0][1][:5]
    assert out[1, ids.shape[1] :].tolist() == rows[1][1]


def test_the_interface_is_what_other_loaders_expect(tiny_artifact):
    artifact, _ = tiny_artifact("llama")
    session = InferenceSession(artifact.graph_path("int8_blocks"))
    inputs = {value.name: value.shape for value in session.get_inputs()}
    assert inputs["input_ids"] == ["batch_size", "sequence_length"]
    assert inputs["past_key_values.2.value"] == ["batch_size", 2, "past_sequence_length", 16]
    assert len(inputs) == 3 + 2 * 3
    assert [value.name for value in session.get_overridable_initializers()] == ["first_logit_position"]
    assert [value.name for value in session.get_outputs()][:3] == ["logits", "present.0.key", "present.0.value"]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_tied_embedding_is_stored_once(precision, default_artifact):
    graph = onnx.load(default_artifact.graph_path(precision), load_external_data=False).graph
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= 49_152 * 576]
    places = {tuple(entry.value for entry in tensor.external_data) for tensor in large}
    assert len(places) == 1  # in another shape too, but in one place of the file
    assert not any(node.op_type == "Reshape" and node.input[0].startswith("embedding") for node in graph.node)


def test_the_report_lists_every_file_and_sees_a_change(tiny_folder, tmp_path):
    artifact = export(open_model(str(tiny_folder("gpt2")[0])), tmp_path / "out", Request(["int8_blocks"]))
    files = {str(path.relative_to(artifact.folder)) for path in artifact.folder.rglob("*") if path.is_file()}
    assert files == {*artifact.report["files"], "report.json"}
    assert {"config.json", "tokenizer.json", "README.md", "onnx/model_quantized.onnx"} <= files
    artifact.verify()
    data = artifact.folder / "onnx/model_quantized.onnx"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match="SHA-256 differs"):
        artifact.verify()
    data.write_bytes(content[:-1])
    with pytest.raises(UserError, match="cut off"):
        Artifact(artifact.folder)


def test_the_same_model_gives_the_same_bytes(tiny_folder, tmp_path):
    model = open_model(str(tiny_folder("llama_biases")[0]))
    first, second = (export(model, tmp_path / name, Request(["fp32", "int8_blocks"])).report["files"] for name in "ab")
    assert first == second


def test_a_failed_export_leaves_the_old_folder_and_no_half_one(tiny_folder, tmp_path, monkeypatch):
    model = open_model(str(tiny_folder("llama")[0]))
    before = export(model, tmp_path / "out", Request(["fp32"])).report

    def fail(folder):
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        export(type(model)(**{**vars(model), "write_tokenizer": fail}), tmp_path / "out", Request(["int8_blocks"]))
    assert Artifact(tmp_path / "out").report == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_something_else_is_left_alone(tiny_folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not an exported model: it is left alone"):
        export(open_model(str(tiny_folder("llama")[0])), tmp_path, Request(["fp32"]))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_full_disk_is_said_before_the_work(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5 * 10**6})())
    with pytest.raises(UserError, match="only 5 MB are free"):
        export(open_model(str(tiny_folder("llama")[0])), tmp_path / "out", Request(["fp32"]))
    assert list(tmp_path.iterdir()) == []


def test_a_head_size_that_the_kernel_refuses(tiny_folder, tmp_path):
    folder, _ = tiny_folder("llama")
    model = open_model(str(folder))
    config = type(model.config)(**{**vars(model.config), "head_size": 8})
    with pytest.raises(UserError, match="multiple of 16"):
        export(type(model)(**{**vars(model), "config": config}), tmp_path / "out", Request(["fp32"]))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "bert"}, "'bert' is not supported; supported are: llama"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling"),
        ({"num_key_value_heads": 3}, "can't be shared out"),
        ({"hidden_size": None}, "doesn't describe"),
    ],
)
def test_configurations_that_are_refused(tiny_folder, tmp_path, change, message):
    config = json.loads((tiny_folder("llama")[0] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(UserError, match=message):
        open_model(str(tmp_path))


@pytest.mark.parametrize("variant", ["llama", "gpt2"])
def test_the_readmes_examples_write_what_transformers_writes(variant, tiny_artifact, capsys):
    artifact, reference = tiny_artifact(variant)
    examples = re.findall(r"```python\n(.*?)```", (artifact.folder / "README.md").read_text(), re.DOTALL)
    tokenizer = tiny_models.make_tokenizer()
    inputs = tokenizer("Once upon a time", return_tensors="pt")
    expected = reference.generate(**inputs, max_new_tokens=20, do_sample=False, pad_token_id=0)[0]
    assert len(examples) == 2  # with optimum, and with onnxruntime alone
    for example in examples:
        exec(example.replace("THIS_FOLDER", str(artifact.folder)), {})
        said = capsys.readouterr().out
        assert said.startswith(tokenizer.decode(expected)[:40])
