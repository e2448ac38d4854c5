"""The precisions that a model can be exported in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compression.linear import BlockInteger, Float32, NumberFormat
from compression.mixed_int8 import BLOCK_SIZE, HEAD_BLOCK_SIZE, Choice, MixedInt8
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.backbone.weights import Model


@dataclass(frozen=True)
class Plan:
    """What a graph is written from."""

    weights: Mapping[str, np.ndarray]
    number_format: NumberFormat
    choice: Choice | None = None


class Planning:
    """A model on its way into several precisions, which share one calibration.

    Args:
        done: called now and then while it calibrates
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, text: str, done: Callable[[], None]) -> None:
        self.model = model
        self._arguments = (model, tokenizer, text, done)

    @cached_property
    def mixed_int8(self) -> MixedInt8:
        return MixedInt8(*self._arguments)


@dataclass(frozen=True)
class Precision:
    name: str
    description: str
    plan: Callable[[Planning], Plan]
    bits_per_weight: float
    """storage for estimates, scales included"""
    ratio_limit: float
    """how much larger than fp32's its perplexity may be, in `check`"""


def _float32(planning: Planning) -> Plan:
    return Plan(planning.model.weights, Float32())


def _int8_blocks(planning: Planning) -> Plan:
    # Blocks of 64 are faster than of 32 and as good; the head keeps 32, on which the default model's
    # embedding (Q8_0) is exact.
    return Plan(planning.model.weights, BlockInteger(8, BLOCK_SIZE, HEAD_BLOCK_SIZE))


def _mixed(budget: float) -> Callable[[Planning], Plan]:
    return lambda planning: Plan(*planning.mixed_int8.choose(budget))


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", "32-bit floating point: the reference", _float32, 32, 1.001),
        Precision("int8_blocks", "8-bit integers, a scale for every 64 weights of a row", _int8_blocks, 8.6, 1.01),
        Precision(
            "int8",
            "8-bit integers, activations with a scale a token, sensitive matrices in blocks",
            _mixed(2.2),
            8.5,
            1.01,
        ),
        Precision("int8_fastest", "the same with fewer matrices in blocks", _mixed(3.3), 8.4, 1.03),
    )
}
