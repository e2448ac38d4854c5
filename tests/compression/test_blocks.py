"""Weights in blocks: grids and rounding by hand, GPTQ and AWQ against plain rounding, int4 on small models."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from compression.awq import awq_scales
from compression.block_candidates import Candidate
from compression.block_settings import METHODS, BlockSettings
from compression.calibration_text import default_calibration_text
from compression.export import Request, export
from compression.gptq import gptq
from compression.graph import Graph
from compression.linear import BlockInteger, stored_bytes
from compression.mixed_blocks import MixedBlocks, _Order
from compression.quantize_blocks import (
    Blocks,
    affine_grid,
    asymmetric_grid,
    round_to_nearest,
    symmetric_grid,
)
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError


def random_matrix(rows=48, columns=64, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def on_q4_1_grid(rows, columns, seed=0, used=range(16)):
    """Weights as llama.cpp's Q4_1 gives them back: d · q + m in fp32, d and m in fp16, q from 0 to 15."""
    random = np.random.default_rng(seed)
    shape = (rows, columns // 32, 1)
    d = random.uniform(0.03, 0.1, shape).astype(np.float16).astype(np.float32)
    m = (-d * random.uniform(5, 10, shape)).astype(np.float16).astype(np.float32)  # around zero, as weights are
    q = random.choice(list(used), (rows, columns // 32, 32)).astype(np.float32)
    return (d * q + m).reshape(rows, columns)


class TestGrids:
    def test_symmetric_by_hand(self):
        weight = np.array([[1.27, -0.64, 0.0, 0.0]], np.float32)
        blocks = round_to_nearest(weight, symmetric_grid(weight, bits=8, block_size=2))
        np.testing.assert_allclose(blocks.grid.scales, [[0.01, 0.0]], rtol=1e-3)
        assert blocks.codes.tolist() == [[[128 + 127, 128 - 64], [128, 128]]]
        np.testing.assert_allclose(blocks.dequantize(), [[1.27, -0.64, 0, 0]], rtol=1e-3)
        on_a_grid = (np.arange(-127, 129, 8) * np.float16(0.0123).astype(np.float32))[None]
        np.testing.assert_array_equal(
            round_to_nearest(on_a_grid, symmetric_grid(on_a_grid, 8, 32)).dequantize(), on_a_grid
        )
        with pytest.raises(ValueError, match="can't be cut"):
            symmetric_grid(np.zeros((1, 6), np.float32), 8, 4)

    def test_asymmetric_by_hand(self):
        weight = np.array([[-0.5, 1.0, 0.23, 0.0]], np.float32)  # a step of 0.1, zero at code 5
        blocks = round_to_nearest(weight, asymmetric_grid(weight, bits=4, block_size=4))
        assert blocks.grid.zero_points.tolist() == [[5]]
        assert blocks.codes.tolist() == [[[0, 15, 7, 5]]]
        assert blocks.dequantize()[0, 3] == 0

    @pytest.mark.parametrize("used", [range(16), range(1, 15), (0, 3, 6, 9, 15), (4, 5)])
    def test_weights_on_a_grid_are_kept(self, used):
        weight = on_q4_1_grid(8, 256, used=used)
        grid, on_grid = affine_grid(weight, 4, 32)
        assert on_grid.all()
        step = grid.scales.max()
        np.testing.assert_allclose(round_to_nearest(weight, grid).dequantize(), weight, atol=0.08 * step)

    def test_only_the_rows_on_a_grid_are_taken_for_such(self):
        weight = np.concatenate([on_q4_1_grid(5, 256), random_matrix(7, 256)])
        _, on_grid = affine_grid(weight, 4, 32)
        assert on_grid.tolist() == [True] * 5 + [False] * 7

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.sampled_from([4, 8]), st.floats(-3, 3), st.floats(1e-3, 10))
    def test_rounding_is_off_by_half_a_step_or_a_step_at_most(self, seed, bits, middle, width):
        weight = random_matrix(4, 64, seed) * np.float32(width) + np.float32(middle)
        # With a rounded zero point the grid may begin, or end, half a step too early.
        for make, steps in ((symmetric_grid, 0.52), (asymmetric_grid, 1.02)):
            grid = make(weight, bits, 32)
            error = np.abs(round_to_nearest(weight, grid).dequantize() - weight).reshape(4, 2, 32).max(-1)
            assert (error <= steps * grid.scales + 1e-6).all()


@pytest.fixture
def correlated():
    """Weights, and the second moments of inputs whose channels differ in size and depend on each other."""
    random = np.random.default_rng(1)
    x = random.normal(size=(500, 16)) @ random.normal(size=(16, 64)) + 0.1 * random.normal(size=(500, 64))
    x *= np.exp(random.normal(size=64))
    return random_matrix(seed=2), torch.tensor(x.T @ x / len(x))


def output_error(weight, quantized, moments):
    """‖(W - Ŵ) X‖²"""
    difference = torch.tensor(weight - quantized).double()
    return float((difference @ moments * difference).sum())


class TestCalibratedRounding:
    @pytest.mark.parametrize("make", [symmetric_grid, asymmetric_grid])
    def test_gptq_changes_the_output_less(self, make, correlated):
        weight, moments = correlated
        grid = make(weight, 4, 32)
        nearest, calibrated = round_to_nearest(weight, grid), gptq(weight, moments, grid)
        assert output_error(weight, calibrated.dequantize(), moments) < 0.5 * output_error(
            weight, nearest.dequantize(), moments
        )
        assert calibrated.codes.max() <= 15

    def test_gptq_of_two_weights_by_hand(self):
        """Inputs that are always equal: what the first weight loses, the second makes up for."""
        weight = np.array([[0.4, 0.4, 7.0, -7.0] + [0.0] * 12], np.float32)
        grid = symmetric_grid(weight, 4, 16)  # a step of 1
        moments = torch.zeros(16, 16, dtype=torch.float64)
        moments[:2, :2] = 1.0
        values = gptq(weight, moments, grid, damping=1e-6).dequantize()
        assert values[0, :2].sum() == 1.0  # 0.8 is nearest; plain rounding gives 0
        assert round_to_nearest(weight, grid).dequantize()[0, :2].sum() == 0

    def test_gptq_with_independent_inputs_is_rounding(self):
        weight = random_matrix()
        grid = asymmetric_grid(weight, 4, 32)
        np.testing.assert_array_equal(
            gptq(weight, torch.eye(64, dtype=torch.float64), grid).codes, round_to_nearest(weight, grid).codes
        )

    def test_awq_protects_the_channels_that_are_large(self, correlated):
        weight, moments = correlated

        def quantize(scaled):
            return round_to_nearest(scaled, symmetric_grid(scaled, 4, 32))

        scales = awq_scales(weight, moments, quantize)
        plain = output_error(weight, quantize(weight).dequantize(), moments)
        assert output_error(weight, quantize(weight * scales).dequantize() / scales, moments) < 0.9 * plain
        assert np.corrcoef(np.log(scales), np.log(np.diag(moments)))[0, 1] > 0.99


class TestInTheGraph:
    @pytest.mark.parametrize("way", ["symmetric", "asymmetric", "offsets", "8 bits", "8 bits asymmetric"])
    @pytest.mark.parametrize("columns", [64, 96, 1536])
    def test_the_product_is_that_of_the_dequantized_weights(self, way, columns, tmp_path):
        weight = random_matrix(40, columns) + np.float32(0.3)
        grid = {
            "symmetric": lambda: symmetric_grid(weight, 4, 32),
            "asymmetric": lambda: asymmetric_grid(weight, 4, 32),
            "offsets": lambda: affine_grid(weight, 4, 32)[0],
            "8 bits": lambda: symmetric_grid(weight, 8, 32),
            "8 bits asymmetric": lambda: asymmetric_grid(weight, 8, 32),
        }[way]()
        blocks = round_to_nearest(weight, grid)
        x = random_matrix(5, columns, seed=3)[None]
        with Graph(tmp_path / "linear.onnx") as graph:
            graph.input("x", TensorProto.FLOAT, list(x.shape))
            y = BlockInteger(lambda *_: blocks).linear(graph, "layer", "x", weight, None)
            graph.output(y, TensorProto.FLOAT, ["batch", "tokens", "out"])
            graph.save({})
        actual = onnxruntime.InferenceSession(tmp_path / "linear.onnx").run(None, {"x": x})[0]
        expected = x @ blocks.dequantize().T
        assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) < 0.01  # x itself is rounded to 8 bits
        with Graph(tmp_path / "stored.onnx") as graph:
            BlockInteger(lambda *_: blocks).linear(graph, "layer", "x", weight, None)
            graph.save({})
        size = sum(path.stat().st_size for path in tmp_path.glob("stored*"))
        if grid.offsets is None:  # else the matrix that sums up blocks is there too
            assert abs(stored_bytes(grid) - size) < 5000

    @pytest.mark.parametrize("bits", [4, 8])
    @pytest.mark.parametrize("make", [symmetric_grid, asymmetric_grid])
    def test_a_row_looked_up_is_the_dequantized_row(self, make, bits, tmp_path):
        table = random_matrix(50, 96)
        blocks = round_to_nearest(table, make(table, bits, 32))
        with Graph(tmp_path / "table.onnx") as graph:
            graph.input("ids", TensorProto.INT64, [1, 3])
            rows = BlockInteger(lambda *_: blocks).embedding(graph, "embedding", "ids", table)
            graph.output(rows, TensorProto.FLOAT, [1, 3, 96])
            graph.save({})
        ids = np.array([[0, 49, 7]])
        actual = onnxruntime.InferenceSession(tmp_path / "table.onnx").run(None, {"ids": ids})[0]
        np.testing.assert_allclose(actual, blocks.dequantize()[ids], atol=1e-6)


def candidate(way, error, rows):
    weight = np.zeros((rows, 32), np.float32)
    grid = symmetric_grid(weight, 8, 32)
    return Candidate(way, Blocks(np.zeros((rows, 1, 32), np.uint8), grid), error)


def test_moves_come_by_what_they_gain_for_their_price():
    order = _Order(
        {
            "a": [candidate("small", 1.0, 10), candidate("bad", 0.95, 20), candidate("large", 0.2, 30)],
            "b": [candidate("small", 1.0, 10), candidate("large", 0.9, 20)],
        },
        lambda way: way.size,
    )
    assert {name: way.way for name, way in order.mix(0).items()} == {"a": "small", "b": "small"}
    assert {name: way.way for name, way in order.mix(1).items()} == {"a": "large", "b": "small"}
    assert {name: way.way for name, way in order.mix(2).items()} == {"a": "large", "b": "large"}
    bytes_a_row = 34
    assert [order.affordable(rows * bytes_a_row) for rows in (19, 20, 39, 40, 49, 50, 99)] == [-1, 0, 0, 1, 1, 2, 2]


@pytest.fixture(scope="module")
def tiny(tiny_folder, tiny_artifact):
    return open_model(str(tiny_folder("llama")[0])), tiny_artifact("llama")[0].load_tokenizer()


class Weights(dict):
    """A model's weights, to be changed."""

    def __init__(self, weights, change=lambda name, weight: weight):
        super().__init__({name: change(name, weight) for name, weight in weights.items()})
        self.config = weights.config


class TestInt4:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("symmetric", [False, True])
    def test_every_method_stays_close(self, method, symmetric, tiny):
        blocks = MixedBlocks(*tiny, default_calibration_text(), BlockSettings(method, symmetric))
        choice = blocks.choose(None, 10**9, head_bits=8)[2]
        assert choice.mean_kl < 0.01  # unlimited, nearly all is in 8 bits
        in_four_bits = [errors["4 bits/32"] for errors in choice.errors.values()]
        in_eight_bits = [errors["8 bits/64"] for errors in choice.errors.values()]
        assert sum(in_eight_bits) < 0.02 * sum(in_four_bits)
        assert max(in_four_bits) < 0.05, in_four_bits

    def test_a_budget_is_kept_and_used(self, tiny):
        blocks = MixedBlocks(*tiny, default_calibration_text(), BlockSettings())
        small, large = (blocks.choose(None, size, 8)[2] for size in (85_000, 105_000))
        assert small.mean_kl > large.mean_kl
        good = blocks.choose(small.mean_kl, 10**9, 8)[2]
        assert good.mean_kl <= small.mean_kl
        with pytest.raises(UserError, match="Allow a larger size"):
            blocks.choose(None, 30_000, 8)

    def test_weights_on_a_grid_are_not_degraded_again(self, tiny):
        model, tokenizer = tiny

        def on_grid(name, weight):
            return (
                on_q4_1_grid(*weight.shape, seed=len(name))
                if name.startswith("blocks") and weight.ndim == 2
                else weight
            )

        weights = Weights(model.weights, on_grid)
        blocks = MixedBlocks(replace(model, weights=weights), tokenizer, default_calibration_text(), BlockSettings())
        assert blocks.keeps_source_grid
        choice = blocks.choose(0.0, 10**9, 8)[2]
        assert set(choice.chosen.values()) <= {"4 bits+", "8 bits/64"}
        for errors in choice.errors.values():
            assert errors["4 bits+"] < 0.1 * errors["4 bits/32"]

    def test_the_default_model_keeps_its_grid(self, tmp_path, default_artifact):
        """The whole way on the real model. With plain rounding and a short text, for the sake of time."""
        settings = BlockSettings("nearest", mean_kl=0.012)
        request = Request(["int4"], default_calibration_text()[:2500], settings=settings, check=True)
        artifact = export(open_model("default"), tmp_path / "out", request, reference=default_artifact)
        entry, check = artifact.report["precisions"]["int4"], artifact.report["checks"]["int4"]
        assert entry["ratio_limit"] == 1.02 and check["passed"]
        assert entry["size_mb"] <= 100
        assert list(entry["choice"]["chosen"].values()).count("4 bits+") > 30
