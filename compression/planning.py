"""From a model to what its graph in a precision is written from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compression.block_settings import BlockSettings
from compression.calibrated_int8 import CalibratedInt8
from compression.choice import Choice
from compression.linear import BlockInteger, Float32, NumberFormat
from compression.mixed_int8 import IN_BLOCKS, MixedInt8
from compression.precisions import INT4_BITS
from compression.scaled_channels import ScaledChannels
from compression.sizes import fixed_bytes, size_bytes
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError

if TYPE_CHECKING:
    from compression.mixed_blocks import MixedBlocks

INT8_BUDGETS = {"int8": 2.2, "int8_fastest": 3.3}
"""mean KL to fp32, as a multiple of what blocks everywhere cost"""
DEFAULT_SETTINGS = BlockSettings()


@dataclass(frozen=True)
class Plan:
    """What a graph is written from."""

    weights: Mapping[str, np.ndarray]
    number_format: NumberFormat
    choice: Choice | None = None
    encoder_format: NumberFormat | None = None
    """of the encoding graph, where it isn't the decoder's"""
    ratio_limit: float | None = None
    """where it is another than the precision's own"""


class Planning:
    """A model on its way into several precisions, which share one calibration.

    Args:
        text: for calibration
        settings: of int4 and int4_fast
        calibrated: int8 and int8_fastest take their calibration from this file
        done: called now and then while it calibrates
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        text: str,
        settings: BlockSettings = DEFAULT_SETTINGS,
        calibrated: Path | None = None,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.settings = settings
        self._tokenizer = tokenizer
        self._text = text
        self._calibrated = calibrated
        self._done = done
        self._int8: dict[float, tuple[ScaledChannels, NumberFormat, Choice]] = {}

    def int8(self, budget: float) -> tuple[ScaledChannels, NumberFormat, Choice]:
        """See `MixedInt8.choose`."""
        if budget not in self._int8:
            self._int8[budget] = self.mixed_int8.choose(budget)
        return self._int8[budget]

    @cached_property
    def mixed_int8(self) -> MixedInt8 | CalibratedInt8:
        if self._calibrated is not None:
            return CalibratedInt8(self._calibrated, self.model)
        return MixedInt8(self.model, self._tokenizer, self._text, self._done)

    @cached_property
    def mixed_blocks(self) -> "MixedBlocks":
        from compression.mixed_blocks import MixedBlocks  # needs PyTorch

        return MixedBlocks(self.model, self._tokenizer, self._text, self.settings, self._done)


def _float32(planning: Planning) -> Plan:
    return Plan(planning.model.weights, Float32())


def _int8_blocks(planning: Planning) -> Plan:
    return Plan(planning.model.weights, BlockInteger(IN_BLOCKS))


def _mixed_int8(budget: float) -> Callable[[Planning], Plan]:
    def plan(planning: Planning) -> Plan:
        # An encoder reads many tokens at once, where blocks cost three times as much; with the fewest of them, the
        # shipped tasks keep their scores (README).
        fastest = planning.int8(INT8_BUDGETS["int8_fastest"])[1]
        return Plan(*planning.int8(budget), encoder_format=fastest)

    return plan


def _int4(
    mean_kl: float, bits_per_weight: float, head_bits: int, on_source_grid: float | None
) -> Callable[[Planning], Plan]:
    def plan(planning: Planning) -> Plan:
        settings, config = planning.settings, planning.model.config
        if settings.size_mb is not None:
            size, limit = int(settings.size_mb * 10**6), settings.mean_kl
        elif settings.mean_kl is not None:
            size, limit = size_bytes(config, 32), settings.mean_kl  # as large as it takes
        else:
            size, limit = size_bytes(config, bits_per_weight), mean_kl
        strict = settings.size_mb is not None
        chosen = planning.mixed_blocks.choose(limit, size - fixed_bytes(config), head_bits, strict)
        if settings.mean_kl is not None and chosen[2].mean_kl > settings.mean_kl:
            raise UserError(
                f"With {head_bits} bits for the head, the best mix that is allowed has a mean KL of "
                f"{chosen[2].mean_kl:.5f}, not {settings.mean_kl}. Allow a larger --mean-kl or --size-mb."
            )
        kept = on_source_grid is not None and planning.mixed_blocks.keeps_source_grid
        return Plan(*chosen, ratio_limit=on_source_grid if kept else None)

    return plan


_PLANS = {
    "fp32": _float32,
    "int8_blocks": _int8_blocks,
    "int8": _mixed_int8(INT8_BUDGETS["int8"]),
    "int8_fastest": _mixed_int8(INT8_BUDGETS["int8_fastest"]),
    "int4": _int4(0.011, INT4_BITS, 8, on_source_grid=1.02),
    "int4_fast": _int4(0.08, INT4_BITS, 4, on_source_grid=None),
}


def plan_of(precision: str, planning: Planning) -> Plan:
    """
    Args:
        precision: one of `PRECISIONS`

    Raises:
        UserError: no mix of matrices is within what the settings allow.
    """
    return _PLANS[precision](planning)
