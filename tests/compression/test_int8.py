"""int8 for speed: the arithmetic by hand, the smoothing as a change of nothing, the choice within its budget."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from compression.calibrated_int8 import calibration_bytes
from compression.calibration import (
    PerTokenLinear,
    calibration_ids,
    input_maxima,
    sensitivities,
)
from compression.calibration_text import default_calibration_text
from compression.check import check_precision, default_text
from compression.export import Request, export
from compression.graph import Graph
from compression.linear import BlockInteger, rounded
from compression.linear_per_token import PerTokenInteger
from compression.mixed_int8 import MixedInt8
from compression.planning import INT8_BUDGETS
from compression.precisions import PRECISIONS
from compression.scaled_channels import ScaledChannels
from compression.smooth_quant import channel_maxima, smooth_quant_scales, smoothing_scales
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.joined_matrices import joined_matrices
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from tests import tiny_models


@pytest.fixture
def tiny(tiny_folder, tiny_artifact):
    """A function: variant -> the model and its tokenizer"""
    return lambda variant: (open_model(str(tiny_folder(variant)[0])), tiny_artifact(variant)[0].load_tokenizer())


def run_linear(number_format, x, weight, bias, folder):
    with Graph(folder / "linear.onnx") as graph:
        graph.input("x", TensorProto.FLOAT, list(x.shape))
        y = number_format.linear(graph, "layer", "x", weight, bias)
        graph.output(y, TensorProto.FLOAT, ["batch", "tokens", "out"])
        graph.save({})
    return onnxruntime.InferenceSession(folder / "linear.onnx").run(None, {"x": x})[0]


@pytest.fixture
def case():
    random = np.random.default_rng(0)
    x, weight = random.normal(size=(1, 5, 64)), random.normal(size=(48, 64))
    x[0, 2] *= 1000  # a massive activation
    return x.astype(np.float32), weight.astype(np.float32), random.normal(size=48).astype(np.float32)


@pytest.mark.parametrize(
    "number_format", [PerTokenInteger(), BlockInteger(rounded(8, 32, 32))], ids=["per token", "blocks"]
)
def test_a_product_is_close_for_every_token(number_format, case, tmp_path):
    x, weight, bias = case
    exact = x @ weight.T + bias
    actual = run_linear(number_format, x, weight, bias, tmp_path)
    error = np.linalg.norm(actual - exact, axis=-1) / np.linalg.norm(exact, axis=-1)  # [1, 5]
    assert error.max() < 0.02  # under one scale for all, the usual tokens would be rounded to nothing


def test_a_token_of_zeros_gives_the_bias(case, tmp_path):
    x, weight, bias = case
    x[0, 1] = 0
    np.testing.assert_allclose(run_linear(PerTokenInteger(), x, weight, bias, tmp_path)[0, 1], bias, atol=1e-6)


def test_channel_maxima_and_scales_by_hand():
    x = np.array([[1.0, -4.0], [2.0, 1.0], [3.0, 0.5], [-900.0, 900.0]])
    assert channel_maxima(x).tolist() == [3.0, 4.0]  # the last token is an outlier
    scales = smoothing_scales(np.array([16.0, 1.0]), np.array([[2.0, 0.0], [-4.0, 0.25]]))
    np.testing.assert_allclose(scales, [np.sqrt(16 / 4), np.sqrt(1 / 0.25)])


@torch.no_grad()
@pytest.mark.parametrize("variant", tiny_models.VARIANTS)
def test_smoothing_changes_nothing(variant, tiny):
    model, tokenizer = tiny(variant)
    decoder = load_decoder(model.weights)
    ids = calibration_ids(tokenizer, default_text(), model.config)[:3]
    scales = smooth_quant_scales(model.weights, model.config, input_maxima(decoder, ids))
    smoothed = ScaledChannels(model.weights, model.config, scales)
    assert not np.allclose(smoothed["blocks.0.attention_norm.weight"], model.weights["blocks.0.attention_norm.weight"])
    torch.testing.assert_close(load_decoder(smoothed)(ids).logits, decoder(ids).logits, atol=1e-4, rtol=1e-4)


def test_sensitivity_is_of_every_matrix_and_finds_the_worst(tiny):
    model, tokenizer = tiny("llama")
    decoder = load_decoder(model.weights)
    ids = calibration_ids(tokenizer, default_text(), model.config)[:2]
    with torch.no_grad():  # one weight so large that the rest of its row rounds to nothing
        decoder.blocks[1].feed_forward.down.weight[:, 0] = 50
    before = {name: parameter.clone() for name, parameter in decoder.named_parameters()}
    found = sensitivities(decoder, ids, PerTokenLinear)
    assert len(found) == 3 * len(joined_matrices(model.config))
    assert max(found, key=found.get) == "blocks.1.feed_forward.down"
    for name, parameter in decoder.named_parameters():
        assert torch.equal(parameter, before[name])


class Weights(dict):
    """A model's weights, to be changed."""

    def __init__(self, weights):
        super().__init__(weights)
        self.config = weights.config


def test_the_choice_keeps_its_budget_with_as_few_blocks_as_it_can(tiny):
    model, tokenizer = tiny("llama")
    weights = Weights(model.weights)
    weights["blocks.1.feed_forward.down.weight"][:, 0] = 50  # the rest of each row rounds to nothing
    mixed = MixedInt8(replace(model, weights=weights), tokenizer, default_calibration_text())
    none, some, every = (mixed.choose(budget)[2] for budget in (10**6, 2, 0))
    in_blocks = [[name for name, way in c.chosen.items() if way == "blocks"] for c in (none, some, every)]
    assert in_blocks[:2] == [[], ["blocks.1.feed_forward.down"]]
    assert len(in_blocks[2]) == 12
    assert some.mean_kl <= 2 * every.mean_kl < none.mean_kl
    assert some == mixed.choose(2)[2]


def test_a_calibration_from_a_file_gives_the_same_bytes(tiny, tmp_path):
    model, tokenizer = tiny("llama_biases")
    fresh = export(model, tmp_path / "fresh", Request(["int8", "int8_fastest"])).report
    path = tmp_path / "calibration.safetensors"
    calibrated = MixedInt8(model, tokenizer, default_calibration_text())
    path.write_bytes(calibration_bytes(calibrated, list(INT8_BUDGETS.values()), model))
    again = export(model, tmp_path / "again", Request(["int8", "int8_fastest"], calibrated=path)).report
    assert again["files"] == fresh["files"]
    assert again["precisions"] == fresh["precisions"]
    with pytest.raises(UserError, match="made for other weights"):
        export(tiny("llama")[0], tmp_path / "other", Request(["int8"], calibrated=path))
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="no calibration of this project"):
        export(model, tmp_path / "other", Request(["int8"], calibrated=path))


@pytest.mark.parametrize("text, message", [("", "has 0 tokens"), ("Too short.", "at least 256")])
def test_a_calibration_text_that_is_too_short(tiny, tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        export(tiny("llama")[0], tmp_path / "out", Request(["int8"], calibration=text))
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_fails_leaves_the_old_folder(tiny, tmp_path, monkeypatch):
    model, _ = tiny("gpt2")
    before = export(model, tmp_path / "out", Request(["fp32", "int8_blocks"], check=True)).report
    assert set(before["checks"]) == {"fp32", "int8_blocks"}
    assert before["checks"]["fp32"]["ratio"] == pytest.approx(1, abs=1e-4)
    monkeypatch.setitem(PRECISIONS, "int8_blocks", replace(PRECISIONS["int8_blocks"], ratio_limit=0.5))
    with pytest.raises(UserError, match=r"int8_blocks failed its check.* over the limit of 0.5"):
        export(model, tmp_path / "out", Request(["fp32", "int8_blocks"], check=True))
    assert Artifact(tmp_path / "out").report == before


def test_the_default_model_in_int8_keeps_its_quality(default_artifact):
    """As it is served, with the calibration that comes with the project."""
    check = check_precision(default_artifact, "int8", default_artifact, default_text())
    assert check.passed and check.ratio <= 1.01
    assert check.mean_kl < 0.012
    assert check.size_mb <= 145
    in_blocks = list(default_artifact.report["precisions"]["int8"]["choice"]["chosen"].values()).count("blocks")
    assert 0 < in_blocks < 60
