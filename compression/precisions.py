"""The precisions that a model can be exported in: what is known of each without a model."""

from dataclasses import dataclass

from compression.block_settings import BlockSettings
from compression.sizes import size_bytes
from gpt_tasks.transformer.config import DecoderConfig

INT4_BITS = 5.7
"""a weight, at most: about what llama.cpp's Q4_1 takes for the default model, its 8-bit head included"""


@dataclass(frozen=True)
class Precision:
    name: str
    description: str
    bits_per_weight: float
    """storage for estimates, scales included"""
    ratio_limit: float
    """how much larger than fp32's its perplexity may be, in `check`"""
    calibrates: bool = True


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", "32-bit floating point: the reference", 32, 1.001, False),
        Precision("int8_blocks", "8-bit integers, a scale for every 64 weights of a row", 8.4, 1.01, False),
        Precision("int8", "8-bit integers, activations with a scale a token, sensitive matrices in blocks", 8.5, 1.01),
        Precision("int8_fastest", "as int8, with fewer matrices in blocks", 8.4, 1.03),
        Precision(
            "int4", "4-bit integers in blocks, each matrix in those that it needs; head in 8 bits", INT4_BITS, 1.12
        ),
        Precision(
            "int4_fast",
            "4-bit integers in the fastest blocks that are good enough, the head in 4 bits too",
            INT4_BITS,
            1.15,
        ),
    )
}


def estimated_bytes(config: DecoderConfig, precision: str, settings: BlockSettings) -> int:
    """The most that a precision's files will take."""
    if precision.startswith("int4") and settings.size_mb is not None:
        return int(settings.size_mb * 10**6)
    return size_bytes(config, PRECISIONS[precision].bits_per_weight)
