"""What this machine's processor can do."""

import platform
from functools import cache
from pathlib import Path

_INFORMATION = Path("/proc/cpuinfo")


@cache
def features() -> frozenset[str]:
    """The processor's features by Linux's names, such as avx512_vnni; elsewhere none are known."""
    return frozenset(_INFORMATION.read_text().split()) if _INFORMATION.is_file() else frozenset()


def adds_8_bit_products_exactly() -> bool:
    """Whether products of 8-bit numbers are added in 32 bits. An x86 processor without VNNI adds two of them in 16 bits
    first, which is too little for the largest: 255 · 127 · 2 > 32,767."""
    return platform.machine() not in ("x86_64", "AMD64") or bool(features() & {"avx512_vnni", "avx_vnni"})
