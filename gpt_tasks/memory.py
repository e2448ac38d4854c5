"""What the process keeps of the memory that it no longer uses."""

import ctypes
import platform

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 256 * 1024


def return_large_blocks() -> None:
    """Has glibc give blocks of 256 kB and more back to the system as soon as they are freed.

    By itself it raises that limit to 32 MB with the first large block, and keeps what lies below: 40 MB that a page
    at rest holds for nothing. Other C libraries are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
