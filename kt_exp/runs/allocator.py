"""How the C library hands memory to tensors on a CPU."""

from __future__ import annotations

import ctypes
import os
import platform

# glibc's names (malloc.h), and the most that it takes for them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER_BELOW, _LARGEST_KEPT = 2**31 - 1, 32 * 2**20
_USERS_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the next tensors; return whether it does now.

    By default it gives back what a step of inversion frees, and the next step takes it anew page by
    page (docs/speed.md has what that costs). What the user sets in the environment stands, and
    other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _USERS_OWN):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_TRIM_THRESHOLD, _NEVER_BELOW))
