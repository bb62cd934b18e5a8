"""Keeps the C library from giving freed memory back to the system between batches.

Every batch allocates the same large activations anew. By default glibc maps each of them freshly, and the
kernel clears its pages one fault at a time, a good part of a pass on the CPU.
"""

from __future__ import annotations

import ctypes
import platform

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Let this process reuse what it frees; its memory then stays at its peak until it ends.

    Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)
