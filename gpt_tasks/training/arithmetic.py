"""Which numbers a CPU multiplies fastest."""

import torch

from gpt_tasks.processor import features

_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86, x86 with tiles, Arm


def training_dtype() -> torch.dtype:
    """bf16 where the CPU multiplies it in hardware, which is about 5 times faster than fp32; fp32 elsewhere, since
    emulated bf16 is about 7 times slower."""
    return torch.bfloat16 if features() & _BFLOAT16 else torch.float32
