"""The rows of inversion: image-steps per second, and memory."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from kt_exp.inversion.invert import State, Task, initial_state, invert
from kt_exp.inversion.settings import InversionSettings
from kt_exp.models.protocol import PatchEncoder
from speed.common import CAPTION, PRODUCTS, Bench, noise, products_of
from speed.measure import Loop, Row, count_flops, rate_row, take_turns
from speed.reference import invert_plainly

REFERENCE = "reference loop"


def inversion(bench: Bench) -> Iterator[Row]:
    """Image-steps per second in the model's own tower, and in the lean one, each with its levers.

    A first step and what comes before it do not count. The floor is the time of the products and
    convolutions that the model's own tower needs, to the pixels and back, at the rate measured for
    products of its shape. A lever may go below it.
    """
    levers: dict[str, dict[str, Any]] = {"own tower": {"tower": "model"}}
    if isinstance(bench.model, PatchEncoder):
        levers["lean tower"] = {"tower": "lean"}
        levers["lean, bf16"] = {"tower": "lean", "bf16": True}
        levers["lean, half of the patches"] = {"tower": "lean", "patch_dropout": 0.5}
    products = products_of(bench)
    ways = {PRODUCTS: partial(bench.clock.seconds, products.way),
            REFERENCE: partial(_plain_loop, bench)}
    for name, speed in levers.items():
        ways[name] = partial(_loop, bench, bench.settings(**speed))
    taken = take_turns(bench.repeats, ways)
    floor = products.floor(_flops_to_pixels(bench) * bench.steps, taken[PRODUCTS])
    for name in levers:
        yield rate_row(f"inversion, {name}", "image-steps/s", bench.images * bench.steps, taken,
                       name, REFERENCE, f"{REFERENCE}; {PRODUCTS}", floor)


def memory(bench: Bench) -> Iterator[Row]:
    """Peak memory of three steps for 10, 100 and 1000 images in chunks of `images`; what is more
    than for 10 are the images themselves."""
    settings = replace(bench.settings(tower="lean"), steps=3)
    for count in (10, 100, 1000):
        _reset_peak(bench)
        for _ in range(0, count, bench.images):
            _invert(bench, settings, _Quiet())
        yield Row(f"peak memory, {count} images in chunks of {bench.images}", "MiB", _peak(bench))


@dataclass(frozen=True)
class _Quiet:
    after_step: Callable[[], None] = lambda: None

    def advance(self, score: Callable[[], float]) -> None:
        self.after_step()

    def stop(self) -> bool:
        return False

    def save(self, state: State) -> None:
        pass


def _invert(bench: Bench, settings: InversionSettings, hooks: _Quiet) -> None:
    tasks = [Task(CAPTION, index) for index in range(bench.images)]
    invert(bench.model, tasks, settings, 0, initial_state(tasks, settings, bench.model, 0), hooks)


def _loop(bench: Bench, settings: InversionSettings) -> float:
    loop = Loop(bench.clock, bench.steps + 1)
    _invert(bench, replace(settings, steps=bench.steps + 1), _Quiet(loop.step))
    return loop.seconds


def _plain_loop(bench: Bench) -> float:
    loop = Loop(bench.clock, bench.steps + 1)
    settings = replace(bench.settings(tower="model"), steps=bench.steps + 1)
    invert_plainly(bench.model, [CAPTION] * bench.images, settings, loop.step)
    return loop.seconds


def _flops_to_pixels(bench: Bench) -> float:
    bench.model.module.eval().requires_grad_(False)
    scorer = bench.model.scorer([CAPTION] * bench.images)
    images = noise(bench, bench.images).requires_grad_()
    return count_flops(lambda: scorer(images).sum().backward())


def _reset_peak(bench: Bench) -> None:
    if bench.model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.model.device)


def _peak(bench: Bench) -> float:
    """MiB: of the GPU, or of the whole process so far."""
    if bench.model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(bench.model.device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
