"""Freed memory stays with the process, unless its user has other plans."""

import os
import platform
import subprocess
import sys

import pytest

# The fewest of some rounds: a small block between the large ones may cost one of them once.
FAULTS = """
import resource, torch
from kt_exp.runs.allocator import keep_freed_memory
print(keep_freed_memory())
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.zeros(2_000_000) for _ in range(12)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(4)))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")


def kept_and_faults(**environment):
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True,
                         env={**os.environ, **environment})
    kept, faults = run.stdout.split()
    return kept == "True", int(faults)


def test_memory_that_is_freed_is_there_for_the_next_tensors():
    pages = 12 * 8_000_000 // os.sysconf("SC_PAGE_SIZE")
    kept, faults = kept_and_faults()
    assert kept
    # A tensor or two may lie where the heap cannot grow, and are mapped anew each time.
    assert faults < pages / 4


@pytest.mark.parametrize("setting", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_what_the_user_sets_stands(setting):
    kept, faults = kept_and_faults(**{setting: "131072"})
    assert not kept
    assert faults >= 12  # Each tensor is mapped anew: a page or more, however large pages are.
