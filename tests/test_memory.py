"""Peak memory: of the process, from a moment on."""

from __future__ import annotations

import pytest
import torch

from kt_exp.memory import peak_gib, reset_peak

CPU = torch.device("cpu")


def test_a_peak_is_counted_from_the_reset_on_and_what_was_freed_does_not_count() -> None:
    if not reset_peak(CPU):
        pytest.skip("this system does not tell a process's peak")
    before = peak_gib(CPU)
    held = [torch.ones(2**18) for _ in range(256)]  # 1 MiB each, as glibc's arena holds them
    assert 0.2 < peak_gib(CPU) - before < 0.4
    del held
    assert peak_gib(CPU) - before > 0.2
    assert reset_peak(CPU)
    assert peak_gib(CPU) - before < 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_of_a_gpu_it_is_what_torch_allocated() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    assert reset_peak(device)
    before = peak_gib(device)
    held = torch.ones(2**26, device=device)
    del held
    assert peak_gib(device) - before == pytest.approx(0.25, abs=0.01)
