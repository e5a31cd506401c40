"""Peak memory of a stretch of work: what torch allocates on a GPU, or what the process holds."""

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # man 5 proc: resets the peak resident set size to the current value


def reset_peak(device: torch.device) -> bool:
    """Count the peak from what is in use now; return whether this system tells it.

    A GPU's is counted by torch, the process's by Linux; other systems do not reset theirs. Memory
    that glibc keeps of freed tensors goes back to the system first, or it would count.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return "VmHWM" in _STATUS.read_text(encoding="ascii", errors="replace")


def peak_gib(device: torch.device) -> float:
    """Return the peak since `reset_peak`, which returned True, in GiB.

    On CUDA the tensors that torch allocated on that device. On the CPU the resident set of the
    process, with interpreter, libraries and the model.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="ascii", errors="replace"))
    assert found
    return int(found[1]) / 2**20
