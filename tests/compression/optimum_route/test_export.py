"""Models that go through optimum: families, checks, schemes, the README's examples, mistakes."""

import json
import re
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from compression.commands.other_models import default_texts
from compression.optimum_route import schemes
from compression.optimum_route.checkpoint import Checkpoint, other_checkpoint
from compression.optimum_route.export import PRECISIONS, OptimumRequest, estimated_megabytes, export_by_optimum
from compression.optimum_route.head_input import head_input
from compression.optimum_route.tasks import TASKS
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.errors import UserError
from tests import tiny_models
from tests.compression.optimum_route import other_models

TEXTS = default_texts()[:12]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function: family -> its exported folder, the report, and the reference model."""
    made = {}

    def make(family):
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            reference = other_models.save(family, folder / "checkpoint")
            checkpoint = other_checkpoint(str(folder / "checkpoint"), None)
            # A random model's likeliest tokens are near ties: quantized it may lose most of them.
            facts = export_by_optimum(checkpoint, folder / "out", OptimumRequest(PRECISIONS, TEXTS, budget=0.95))
            made[family] = folder / "out", facts, reference
        return made[family]

    return make


@pytest.mark.parametrize("family", other_models.FAMILIES)
def test_every_family_passes_its_checks(family, exported):
    folder, facts, _ = exported(family)
    assert list(facts["precisions"]) == ["fp32", "int8", "int4"]
    assert facts["checks"]["fp32"]["loss"] <= 0.001
    assert all(facts["checks"][precision]["passed"] for precision in PRECISIONS)
    sizes = [facts["precisions"][precision]["size_mb"] for precision in PRECISIONS]
    assert sizes[0] > max(sizes[1:])
    for name, listed in facts["files"].items():
        assert (folder / name).stat().st_size == listed["bytes"]
    graphs = {name for entry in facts["precisions"].values() for name in entry["files"]}
    assert {str(path.relative_to(folder)) for path in (folder / "onnx").iterdir()} == graphs  # nothing is left over


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra", "deberta"])
def test_onnxruntime_gives_what_transformers_gives(family, exported):
    folder, facts, reference = exported(family)
    ids = torch.arange(2, 42).reshape(2, 20)
    mask = torch.ones_like(ids)
    mask[1, 15:] = 0
    with torch.inference_mode():
        expected = reference(input_ids=ids, attention_mask=mask)[0].numpy()
    session = onnxruntime.InferenceSession(folder / facts["precisions"]["fp32"]["file"])
    feed = {"input_ids": ids.numpy(), "attention_mask": mask.numpy(), "token_type_ids": np.zeros_like(ids.numpy())}
    [actual] = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})
    seen = mask.numpy().astype(bool) if actual.ndim == 3 else slice(None)
    np.testing.assert_allclose(actual[seen], expected[seen], atol=2e-4)


@pytest.mark.parametrize("family", ["gpt_neox", "falcon", "bert", "electra", "deberta", "t5", "bart"])
def test_the_readmes_examples_run(family, exported, capsys):
    folder, _, _ = exported(family)
    readme = (folder / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        assert len(example.split("\n")) <= 26
        exec(example.replace("THIS_FOLDER", str(folder)), {})
    said = capsys.readouterr().out.strip().split("\n")
    assert len(said) >= 2 and all(said)


def test_both_examples_of_a_causal_model_write_what_transformers_writes(exported, capsys):
    folder, _, reference = exported("gpt_neox")
    tokenizer = tiny_models.make_tokenizer()
    inputs = tokenizer("Once upon a time", return_tensors="pt")
    expected = tokenizer.decode(reference.generate(**inputs, max_new_tokens=20, do_sample=False, pad_token_id=0)[0])
    plain = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    exec(plain.replace("THIS_FOLDER", str(folder)), {})
    assert capsys.readouterr().out.startswith(expected.rstrip("\n")[:60])


def test_the_figures_that_a_masked_model_is_checked_by(exported):
    _, facts, _ = exported("bert")
    figures = facts["checks"]["int8"]["figures"]
    assert set(figures) == {"masked_top1_agreement", "hidden_cosine"}
    assert 0.9 < figures["hidden_cosine"] < 1
    assert facts["checks"]["int8"]["loss"] == pytest.approx(1 - figures["masked_top1_agreement"])


def test_what_the_head_reads_is_found_by_the_graphs_end():
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["product"]),
        onnx.helper.make_node("Add", ["bias", "product"], ["logits"]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [], [])
    assert head_input(graph) == "x"
    assert head_input(onnx.helper.make_graph(nodes[:1], "g", [], [])) is None


def test_when_no_scheme_keeps_the_limit_a_table_says_so_and_nothing_is_written(tmp_path):
    other_models.save("bert", tmp_path / "checkpoint")
    checkpoint = other_checkpoint(str(tmp_path / "checkpoint"), None)
    with pytest.raises(UserError, match="nothing was written") as raised:
        export_by_optimum(checkpoint, tmp_path / "out", OptimumRequest(["int8"], TEXTS, budget=1e-6))
    for scheme in ("dynamic", "matrices_per_channel", "outliers_in_blocks", "blocks_32"):
        assert re.search(rf"^  {scheme} +\d.*too much", str(raised.value), re.MULTILINE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_a_later_scheme_is_taken_where_the_first_loses_too_much(tmp_path):
    other_models.save("bert", tmp_path / "checkpoint")
    checkpoint = other_checkpoint(str(tmp_path / "checkpoint"), None)
    first = export_by_optimum(checkpoint, tmp_path / "out", OptimumRequest(["int4"], TEXTS, budget=0.99))
    lost = first["precisions"]["int4"]["tried"][0]["loss"]
    facts = export_by_optimum(checkpoint, tmp_path / "out", OptimumRequest(["int4"], TEXTS, budget=lost - 1e-6))
    tried = facts["precisions"]["int4"]["tried"]
    assert len(tried) > 1 and [trial["passed"] for trial in tried] == [False] * (len(tried) - 1) + [True]
    assert tried[-1]["loss"] < lost
    assert not (tmp_path / "out" / "onnx" / "model.onnx").exists()  # fp32 wasn't asked for


@pytest.mark.parametrize("family", ["gpt_neox", "t5"])
def test_a_large_model_has_its_quantized_weights_in_a_file_apart(family, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(schemes, "LARGEST_IN_ONE_FILE", 0)
    other_models.save(family, tmp_path / "checkpoint")
    checkpoint = other_checkpoint(str(tmp_path / "checkpoint"), None)
    out = tmp_path / "out"
    facts = export_by_optimum(checkpoint, out, OptimumRequest(["int8", "int4"], TEXTS, budget=0.95))
    for precision, entry in facts["precisions"].items():
        graph = entry["files"][0]
        assert facts["files"][f"{graph}.data"]["bytes"] > 20_000
        together = exported(family)[1]["precisions"][precision]["size_mb"]
        assert entry["size_mb"] == pytest.approx(together, rel=0.1)
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} - {"report.json"} == {
        *facts["files"]
    }
    with pytest.raises(UserError, match="nothing was written"):  # every scheme, one after the other
        export_by_optimum(checkpoint, tmp_path / "strict", OptimumRequest(["int8"], TEXTS, budget=-1))


def test_only_what_our_graph_lacks_goes_by_optimum(tmp_path):
    tiny_models.save("llama", tmp_path / "llama")
    assert other_checkpoint(str(tmp_path / "llama"), None) is None
    assert other_checkpoint("default", None) is None
    config = json.loads((tmp_path / "llama" / "config.json").read_text())
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config["rope_scaling"] = {**scaling, "original_max_position_embeddings": 64}
    (tmp_path / "llama" / "config.json").write_text(json.dumps(config))
    checkpoint = other_checkpoint(str(tmp_path / "llama"), None)
    assert checkpoint is not None and checkpoint.task == TASKS["text-generation"]
    shutil.copytree(tmp_path / "llama", tmp_path / "classifier")
    config["architectures"] = ["LlamaForSequenceClassification"]
    (tmp_path / "classifier" / "config.json").write_text(json.dumps(config))
    assert other_checkpoint(str(tmp_path / "classifier"), None).task == TASKS["text-classification"]


def test_other_commands_say_what_such_a_folder_is(exported):
    folder, _, _ = exported("bert")
    with pytest.raises(UserError, match="exported by optimum for fill-mask"):
        Artifact(folder)


def refused(folder, out, match, **request):
    with pytest.raises(UserError, match=match):
        checkpoint = other_checkpoint(str(folder), None, request.pop("task", None))
        export_by_optimum(checkpoint, out, OptimumRequest(["fp32"], request.pop("texts", TEXTS)))
    assert not out.exists()


def test_mistakes_are_said_before_the_work(tmp_path, monkeypatch):
    folder, out = tmp_path / "checkpoint", tmp_path / "out"
    other_models.save("bert", folder)
    refused(folder, out, "can't be exported for text2text-generation", task="text2text-generation")
    refused(folder, out, "empty, or too short", texts=[])
    config = json.loads((folder / "config.json").read_text())

    def with_config(**changed):
        (folder / "config.json").write_text(json.dumps({**config, **changed}))

    with_config(model_type="mamba99")
    refused(folder, out, "neither this project's graphs nor optimum's exporter know")
    with_config(model_type="mamba99", auto_map={"AutoModel": "modeling.Mamba99"})
    refused(folder, out, "comes with Python code of its own")
    with_config(architectures=["BertForDreaming"])
    refused(folder, out, "can't be told.*--task")
    with_config()
    (folder / "model.safetensors").rename(folder / "aside")
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    refused(folder, out, "(?i)pickle")
    (folder / "aside").rename(folder / "model.safetensors")
    monkeypatch.setattr("gpt_tasks.memory.available_bytes", lambda: 10**6)
    refused(folder, out, r"About 0\.8 GB of memory are needed")


def test_a_head_that_the_checkpoint_has_not_got_is_not_made_up(tmp_path):
    folder, out = tmp_path / "checkpoint", tmp_path / "out"
    other_models.save("bert", folder)  # fills masks
    refused(folder, out, "no weights for text-classification, such as .*random", task="text-classification")
    checkpoint = other_checkpoint(str(folder), None, "feature-extraction")
    export_by_optimum(checkpoint, out, OptimumRequest(["fp32"], TEXTS))


def test_a_tokenizer_that_gives_token_types_to_a_model_that_writes(tmp_path, capsys):
    folder = tmp_path / "checkpoint"
    other_models.save("gpt_neox", folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    checkpoint = other_checkpoint(str(folder), None)
    export_by_optimum(checkpoint, tmp_path / "out", OptimumRequest(["fp32"], TEXTS))
    for example in re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL):
        exec(example.replace("THIS_FOLDER", str(tmp_path / "out")), {})
    assert len(capsys.readouterr().out.strip().split("\n")) >= 2


def test_sizes_are_told_before_the_work():
    """A BERT of 4 layers: 31.3 MB of its 44.7 are the embedding's table, which int4 leaves as it is."""
    config = {"model_type": "bert", "vocab_size": 30522, "hidden_size": 256}
    checkpoint = Checkpoint("mini", {"kind": "folder"}, config, TASKS["fill-mask"], 44_700_000, lambda: None)
    assert [estimated_megabytes(checkpoint, precision) for precision in PRECISIONS] == [44.7, 12.6, 33.8]


def test_a_tokenizer_that_is_missing_or_another_models(tmp_path):
    folder, out = tmp_path / "checkpoint", tmp_path / "out"
    other_models.save("distilbert", folder, vocab_size=120)
    refused(folder, out, "it is another model's")
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / file).unlink()
    refused(folder, out, "no tokenizer that transformers can load")
