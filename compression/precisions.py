"""The precisions that a model can be exported in."""

from collections.abc import Callable
from dataclasses import dataclass

from compression.linear import BlockInteger, Float32, NumberFormat


@dataclass(frozen=True)
class Precision:
    name: str
    description: str
    make_format: Callable[[], NumberFormat]
    bits_per_weight: float
    """storage for estimates, scales included"""
    ratio_limit: float
    """how much larger than fp32's its perplexity may be, in `check`"""


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", "32-bit floating point: the reference", Float32, 32, 1.001),
        # Blocks of 64 are faster than of 32 and as good; the head keeps 32, on which the default
        # model's embedding (Q8_0) is exact.
        Precision(
            "int8_blocks",
            "8-bit integers, a scale for every 64 weights of a row",
            lambda: BlockInteger(bits=8, block_size=64, head_block_size=32),
            8.6,
            1.01,
        ),
    )
}
