"""Which numbers a CPU multiplies fastest."""

from functools import cache
from pathlib import Path

import torch

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86, x86 with tiles, Arm
_CPU = Path("/proc/cpuinfo")


@cache
def training_dtype() -> torch.dtype:
    """bf16 where the CPU multiplies it in hardware, which is about 5 times faster than fp32; fp32 elsewhere, since
    emulated bf16 is about 7 times slower."""
    flags = set(_CPU.read_text().split()) if _CPU.is_file() else set()
    return torch.bfloat16 if flags & _BFLOAT16_FLAGS else torch.float32
