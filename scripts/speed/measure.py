"""Ways that take turns in one process, and the floors that a device sets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

Way = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was done.
        unit: of `ours` and `plain`.
        ours: median over the repeats.
        plain: the same of what it is measured against, or None.
        ratio: how many times quicker ours is: the median of the repeats' own ratios, or None.
        floor: what the device could do, in the same unit, or None.
        share: how much of the floor ours reaches, or None.
        against: what `plain` and `floor` are.
    """

    what: str
    unit: str
    ours: float
    plain: float | None = None
    ratio: float | None = None
    floor: float | None = None
    share: float | None = None
    against: str = ""


@dataclass(frozen=True)
class Clock:
    """Seconds of the wall, or of the processor: on a machine with other users only the latter
    tells what the work costs, and only with one thread."""

    device: torch.device
    of_cpu: bool

    def __call__(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.of_cpu else time.perf_counter()

    def seconds(self, way: Way) -> float:
        start = self()
        way()
        return self() - start


def alternate(clock: Clock, repeats: int, ways: Mapping[str, Way]) -> dict[str, list[float]]:
    """Return the seconds of each way; they take turns, after a first round that does not count."""
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            taken[name].append(clock.seconds(way))
    return taken


def rate_row(what: str, unit: str, amount: float, taken: dict[str, list[float]], ours: str,
             plain: str, against: str, floor_seconds: float | None = None) -> Row:
    """Return the row of two ways that do `amount` of something, as rates."""
    quick, slow = statistics.median(taken[ours]), statistics.median(taken[plain])
    ratios = [b / a for a, b in zip(taken[ours], taken[plain], strict=True)]
    floor = amount / floor_seconds if floor_seconds else None
    return Row(what, unit, amount / quick, amount / slow, statistics.median(ratios), floor,
               floor_seconds / quick if floor_seconds else None, against)


def count_flops(way: Way) -> float:
    """Return the floating-point operations of the matrix products and convolutions in `way`."""
    with FlopCounterMode(display=False) as counter:
        way()
    return counter.get_total_flops()


def product_rate(clock: Clock, rows: int, inner: int, columns: int, half: bool) -> float:
    """Return what the device reaches in products `(rows, inner) @ (inner, columns)`, FLOP/s."""
    dtype = torch.bfloat16 if half else torch.float32
    left = torch.rand(rows, inner, device=clock.device).to(dtype)
    right = torch.rand(inner, columns, device=clock.device).to(dtype)
    flops, times = 2 * rows * inner * columns, max(1, int(4e9 / (rows * inner * columns)))
    taken = alternate(clock, 5, {"": lambda: [left @ right for _ in range(times)]})[""]
    return flops * times / statistics.median(taken)
