"""What can be asked of int4: how its blocks are rounded, and when to stop spending bytes."""

from dataclasses import dataclass

METHODS = ("awq+gptq", "gptq", "awq", "nearest")


@dataclass(frozen=True)
class BlockSettings:
    method: str = METHODS[0]
    """one of METHODS"""
    symmetric: bool = False
    """zero in the middle of every 4-bit block's codes"""
    size_mb: float | None = None
    """the model's files, in 10^6 bytes: the best quality within that size; None: the precision's own limit"""
    mean_kl: float | None = None
    """to fp32 on the calibration text: the fastest model as good as that; None: the precision's own limit, or
    no limit where a size is given"""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r} is none of {', '.join(METHODS)}")
