"""How much memory there is, and what the process keeps of that which it no longer uses."""

import ctypes
import platform
import re
from pathlib import Path

from gpt_tasks.errors import UserError

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 256 * 1024
_SYSTEM = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


def return_large_blocks() -> None:
    """Has glibc give blocks of 256 kB and more back to the system as soon as they are freed.

    By itself it raises that limit to 32 MB with the first large block, and keeps what lies below: 40 MB that a page
    at rest holds for nothing. Other C libraries are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def available_bytes() -> int | None:
    """Memory that can still be had, within the container's limit; None: the system doesn't tell."""
    if not _SYSTEM.is_file():
        return None
    free = int(re.search(r"MemAvailable:\s*(\d+)", _SYSTEM.read_text())[1]) * 1024
    limit, used = _CONTAINER / "memory.max", _CONTAINER / "memory.current"
    if limit.is_file() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def require_memory(needed: int, purpose: str) -> None:
    """Says so before the work, where it would be killed in the middle.

    Args:
        needed: bytes
        purpose: completes "... GB of memory are needed to ..."

    Raises:
        UserError: less can be had.
    """
    available = available_bytes()
    if available is not None and available < needed:
        raise UserError(
            f"About {needed / 1e9:.1f} GB of memory are needed to {purpose}, and {available / 1e9:.1f} GB are free "
            "here. Close what else runs, or do it on a machine with more memory and bring the folder here."
        )
