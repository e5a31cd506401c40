"""Settings of the C library's memory allocator, for tensors on the CPU."""

from __future__ import annotations

import ctypes
import os
import platform

# glibc's parameters (malloc.h) and the largest values that it accepts for them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER_BELOW, _LARGEST_KEPT = 2**31 - 1, 32 * 2**20
_USERS_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the next tensors; return whether it does now.

    By default glibc returns the memory that a step of inversion frees to the system, and the next
    step gets it back page by page (docs/speed.md says what that costs). Settings in the user's
    environment take precedence; other C libraries are not changed.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _USERS_OWN):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_TRIM_THRESHOLD, _NEVER_BELOW))
