"""`inspect`: what an ONNX model of somebody else's is made of."""

import json
import warnings
from argparse import Namespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression.commands import inspect as command
from compression.inspection import find_graphs, inspect
from gpt_tasks.errors import UserError
from tests import tiny_models


@pytest.fixture(scope="module")
def by_optimum(tmp_path_factory):
    """A GPT-2 as optimum exports it: task -> folder."""
    from optimum.exporters.onnx import main_export

    made = tmp_path_factory.mktemp("optimum")
    tiny_models.save("gpt2", made / "checkpoint")
    for task in ("text-generation", "text-generation-with-past"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main_export(str(made / "checkpoint"), made / task, task=task, do_validation=False)
    return made


def problems(found):
    return " ".join(finding.problem for finding in found.findings)


def test_what_an_export_without_a_cache_is_missing(by_optimum):
    found = inspect(by_optimum / "text-generation" / "model.onnx")
    assert not found.has_cache
    assert "no KV cache" in problems(found)
    assert f"{found.nodes} operators; this project's graph has about 33" in problems(found)
    model = onnx.load(by_optimum / "text-generation" / "model.onnx")
    assert found.nodes == sum(found.operators.values()) >= len(model.graph.node)
    assert sum(found.sizes_by_type.values()) == sum(found.sizes_by_kind.values())
    assert found.sizes_by_kind["transformer.h.*.mlp.c_fc.weight"] == 3 * 64 * 256 * 4
    assert set(found.inputs) == {"input_ids", "attention_mask", "position_ids"}


def test_a_cache_is_seen(by_optimum):
    found = inspect(by_optimum / "text-generation-with-past" / "model.onnx")
    assert found.has_cache and "no KV cache" not in problems(found)


def test_our_own_graphs_have_nothing_to_gain(tiny_artifact):
    artifact = tiny_artifact("llama")[0]
    for precision in artifact.precisions:
        found = inspect(artifact.graph_path(precision))
        assert found.has_cache and found.findings == []
        assert found.size_mb == pytest.approx(artifact.report["precisions"][precision]["size_mb"], abs=0.06)


def graph(tmp_path, arrays, opset=17, operators=("MatMul",)):
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    nodes = [helper.make_node(operator, ["x", tensors[0].name], ["logits"]) for operator in operators]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 8])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors), opset_imports=[helper.make_opsetid("", opset)]
    )
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_doubles_are_found_as_they_are_and_transposed(tmp_path):
    table = np.random.default_rng(0).standard_normal((1000, 300)).astype(np.float32)
    arrays = {"table": table, "head": np.ascontiguousarray(table.T), "other": table[::-1].copy(), "small": table[:2]}
    found = inspect(graph(tmp_path, arrays, opset=12, operators=("MatMul", "DynamicQuantizeLinear")))
    assert found.duplicates == [["table", "head"]]
    assert "1.2 MB are stored twice (table, head)" in problems(found)
    assert "opset 12" in problems(found)
    assert "one scale a tensor" in problems(found)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')  # which is exported so here, too
    assert "one scale a tensor" not in problems(inspect(tmp_path / "model.onnx"))


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match=r"no \.onnx file"):
        find_graphs(tmp_path)
    with pytest.raises(UserError, match=r"no \.onnx file"):
        find_graphs(tmp_path / "nowhere")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(UserError, match=r"no ONNX graph|can.t be read"):
        inspect(tmp_path / "text.onnx")


def test_weights_that_are_not_beside_the_graph(tiny_artifact, tmp_path):
    source = tiny_artifact("llama")[0].graph_path("fp32")
    (tmp_path / source.name).write_bytes(source.read_bytes())
    with pytest.raises(UserError, match="not beside it"):
        inspect(tmp_path / source.name)


def test_the_command(tiny_artifact, capsys):
    folder = tiny_artifact("gpt2")[0].folder
    command.run(Namespace(path=folder, json=True))
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == len(list(folder.rglob("*.onnx")))
    command.run(Namespace(path=folder / "onnx" / "model.onnx", json=False))
    said = capsys.readouterr().out
    assert "of the KV cache" in said and "Nothing that exporting it again would change" in said
