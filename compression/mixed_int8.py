"""int8 for speed: which matrices can have 8-bit activations with a scale a token, and which need blocks.

Chosen one by one by measured sensitivity on calibration text, within a quality budget: the most
sensitive matrices, for their size, go into blocks, as few as the budget allows.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from math import prod

import numpy as np

from compression.choice import Choice
from compression.linear import BlockInteger, NumberFormat, rounded
from compression.linear_per_token import MixedInteger
from compression.scaled_channels import ScaledChannels
from compression.scratch import scratch
from compression.smooth_quant import smooth_quant_scales
from gpt_tasks.backbone.joined_matrices import joined_matrices
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.backbone.weights import Model
from gpt_tasks.transformer.shapes import tensor_shape

IN_BLOCKS = rounded(bits=8, block_size=64, head_block_size=32)
"""Blocks of 64 are faster than of 32 and as good; the head keeps 32, on which the default model's embedding
(Q8_0) is exact."""
_MEASURED_SEQUENCES = 4
_COMPARED_SEQUENCES = 4  # to measure sensitivity


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

    def choose(self, budget: float) -> tuple[ScaledChannels, NumberFormat, Choice]:
        """The fewest matrices in blocks with which the mean KL to fp32 stays within the budget.

        Args:
            budget: as a multiple of the mean KL that blocks everywhere cost
        """
        ranked = sorted(self._sensitivities, key=lambda name: -self._sensitivities[name] / self._sizes[name])
        with scratch(self._model.weights, self._ids[:_MEASURED_SEQUENCES].tolist()) as graphs:

            def mean_kl(number_format: NumberFormat) -> float:
                self._done()
                return graphs.mean_kl(self.weights, number_format)

            floor = mean_kl(BlockInteger(IN_BLOCKS))
            fewest, most, found = 0, len(ranked), floor
            while fewest < most:  # with all in blocks the budget is kept
                middle = (fewest + most) // 2
                measured = mean_kl(mixed(ranked[:middle]))
                if measured <= budget * floor:
                    most, found = middle, measured
                else:
                    fewest = middle + 1
        in_blocks = ranked[:most]
        choice = Choice(
            {name: "blocks" if name in in_blocks else "per token" for name in ranked},
            {name: {"per token": self._sensitivities[name]} for name in ranked},
            found,
            f"as few matrices in blocks as keep the mean KL within {budget} times the {floor:.5f} of all in blocks",
        )
        return self.weights, mixed(in_blocks), choice

    @cached_property
    def scales(self) -> dict[str, np.ndarray]:
        """SmoothQuant's, of each joined matrix that a norm feeds."""
        from compression.calibration import input_maxima
        from gpt_tasks.backbone.torch_engine import load_decoder

        maxima = input_maxima(load_decoder(self._model.weights), self._ids)
        self._done()
        return smooth_quant_scales(self._model.weights, self._model.config, maxima)

    @cached_property
    def weights(self) -> ScaledChannels:
        return ScaledChannels(self._model.weights, self._model.config, self.scales)

    @cached_property
    def _sensitivities(self) -> Mapping[str, float]:
        from compression.calibration import PerTokenLinear, sensitivities
        from gpt_tasks.backbone.torch_engine import load_decoder

        return sensitivities(load_decoder(self.weights), self._ids[:_COMPARED_SEQUENCES], PerTokenLinear, self._done)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Weights in each joined matrix: what its speed goes by."""
        config = self._model.config
        return {
            f"blocks.{layer}.{name}": sum(prod(tensor_shape(config, f"blocks.{layer}.{part}.weight")) for part in parts)
            for layer in range(config.layers)
            for name, parts in joined_matrices(config).items()
        }


def mixed(in_blocks: list[str]) -> MixedInteger:
    chosen = frozenset(in_blocks)
    return MixedInteger(IN_BLOCKS, chosen.__contains__)
