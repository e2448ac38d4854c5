"""int8 for speed: which matrices can have 8-bit activations with a scale a token, and which need blocks.

Chosen one by one by measured sensitivity on calibration text, within a quality budget: the most
sensitive matrices, for their size, go into blocks, as few as the budget allows.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from compression.decoder_graph import build_decoder_graph
from compression.graph import Graph
from compression.linear import BlockInteger, Float32, NumberFormat
from compression.linear_per_token import MixedInteger
from compression.parity import compare
from compression.smooth_quant import SmoothedWeights
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.backbone.weights import Model
from gpt_tasks.transformer.config import DecoderConfig

BLOCK_SIZE, HEAD_BLOCK_SIZE = 64, 32
_MEASURED_SEQUENCES = 4


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why: for `--explain` and the report."""

    in_blocks: list[str]
    """joined matrices, the most sensitive for their size first"""
    sensitivities: dict[str, float]
    mean_kl: float
    """to fp32 on the calibration text"""
    mean_kl_all_in_blocks: float
    budget: float


class MixedInt8:
    """The calibration of one model, from which mixes for several budgets are made.

    Args:
        tokenizer: of the same model
        text: for calibration
        done: called now and then, to show that it goes on
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, text: str, done: Callable[[], None] = lambda: None) -> None:
        # PyTorch is imported for calibration only: exports without it start faster.
        from compression.calibration import calibration_ids

        self._model = model
        self._done = done
        self._ids = calibration_ids(tokenizer, text, model.config)

    def choose(self, budget: float) -> tuple[SmoothedWeights, NumberFormat, Choice]:
        """The fewest matrices in blocks with which the mean KL to fp32 stays within the budget.

        Args:
            budget: as a multiple of the mean KL that blocks everywhere cost
        """
        ranked = sorted(self._sensitivities, key=lambda name: -self._sensitivities[name] / self._sizes[name])
        with tempfile.TemporaryDirectory() as scratch:
            folder = _Scratch(Path(scratch), self._model.config)
            reference = folder.engine(self._model.weights, Float32())
            ids = self._ids[:_MEASURED_SEQUENCES].flatten().tolist()
            window = self._ids.shape[1]

            def mean_kl(number_format: NumberFormat) -> float:
                self._done()
                return compare(reference, folder.engine(self.weights, number_format), ids, [], window).mean_kl

            floor = mean_kl(BlockInteger(8, BLOCK_SIZE, HEAD_BLOCK_SIZE))
            fewest, most, found = 0, len(ranked), floor
            while fewest < most:  # with all in blocks the budget is kept
                middle = (fewest + most) // 2
                measured = mean_kl(mixed(ranked[:middle]))
                if measured <= budget * floor:
                    most, found = middle, measured
                else:
                    fewest = middle + 1
        choice = Choice(ranked[:most], {name: self._sensitivities[name] for name in ranked}, found, floor, budget)
        return self.weights, mixed(choice.in_blocks), choice

    @cached_property
    def weights(self) -> SmoothedWeights:
        from compression.calibration import input_maxima
        from gpt_tasks.backbone.torch_engine import load_decoder

        maxima = input_maxima(load_decoder(self._model.weights), self._ids)
        self._done()
        return SmoothedWeights(self._model.weights, self._model.config, maxima)

    @cached_property
    def _sensitivities(self) -> Mapping[str, float]:
        from compression.calibration import PerTokenLinear, sensitivities
        from gpt_tasks.backbone.torch_engine import load_decoder

        return sensitivities(load_decoder(self.weights), self._ids, PerTokenLinear, self._done)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Weights in each joined matrix: what its speed goes by."""
        from compression.calibration import joined_matrices

        config = self._model.config
        return {
            f"blocks.{layer}.{name}": sum(
                int(np.prod(self._model.weights[f"blocks.{layer}.{part}.weight"].shape)) for part in parts
            )
            for layer in range(config.layers)
            for name, parts in joined_matrices(config).items()
        }


def mixed(in_blocks: list[str]) -> MixedInteger:
    chosen = frozenset(in_blocks)
    return MixedInteger(BLOCK_SIZE, HEAD_BLOCK_SIZE, chosen.__contains__)


class _Scratch:
    """Graphs that are measured and thrown away."""

    def __init__(self, folder: Path, config: DecoderConfig) -> None:
        self.config = config
        self._folder = folder
        self._count = 0

    def engine(self, weights: Mapping[str, np.ndarray], number_format: NumberFormat) -> OrtEngine:
        self._count += 1
        with Graph(self.graph_path(str(self._count))) as graph:
            build_decoder_graph(graph, weights, number_format)
            graph.save({})
        return OrtEngine(self, str(self._count))

    def graph_path(self, precision: str) -> Path:
        return self._folder / f"{precision}.onnx"
