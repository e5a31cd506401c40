"""Ways that take turns in one process, and the floors that a device sets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

Way = Callable[[], object]
_LONG_ENOUGH = 0.5  # seconds


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
    return take_turns(repeats, {name: partial(clock.seconds, way) for name, way in ways.items()})


def take_turns(repeats: int, timed: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """The same of ways that tell their seconds themselves."""
    for way in timed.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(repeats):
        for name, way in timed.items():
            taken[name].append(way())
    return taken


class Loop:
    """Tells how long the steps of a loop take, without what comes before the second one."""

    def __init__(self, clock: Clock, steps: int) -> None:
        self._clock, self._steps, self._done = clock, steps, 0

    def step(self) -> None:
        """To be called after each step; waits for the device after the first and the last alone."""
        self._done += 1
        if self._done == 1:
            self._begun = self._clock()
        if self._done == self._steps:
            self.seconds = self._clock() - self._begun


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


def _multiply(left: Tensor, right: Tensor, times: int) -> None:
    for _ in range(times):
        left @ right


@dataclass(frozen=True)
class Products:
    """Products `(rows, inner) @ (inner, columns)` that take turns with what they are a floor of.

    Attributes:
        flops: of all the products that `way` makes.
    """

    way: Way
    flops: float

    @classmethod
    def of_shape(cls, clock: Clock, rows: int, inner: int, columns: int, half: bool) -> Products:
        dtype = torch.bfloat16 if half else torch.float32
        left = torch.rand(rows, inner, device=clock.device).to(dtype)
        right = torch.rand(inner, columns, device=clock.device).to(dtype)
        times, seconds = 1, 0.0
        while seconds < _LONG_ENOUGH:  # A short burst between other work is slower than the device.
            times *= 2
            way = partial(_multiply, left, right, times)
            seconds = clock.seconds(way)
        return cls(way, 2 * rows * inner * columns * times)

    def floor(self, flops: float, taken: Sequence[float]) -> float:
        """Return the seconds for `flops`, from those that `way` has taken: their median."""
        return flops / self.flops * statistics.median(taken)
