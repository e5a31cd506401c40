"""How fast images are inverted, by a few steps of the loop itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kt_exp.inversion.chunks import chunk_size
from kt_exp.inversion.invert import State, Task, initial_state, invert
from kt_exp.inversion.settings import InversionSettings
from kt_exp.models.protocol import Model

_STEPS = 3  # of which the first is not timed
_ON_CPU = 4  # images, as the time of more is nearly proportional


def seconds_per_image_step(model: Model, settings: InversionSettings, images: int) -> float:
    """Return the seconds that a step of one image takes on the model's device, at its last size.

    Args:
        images: how many there are to invert; on a GPU, a whole chunk of them is timed.
    """
    at_once = min(images, chunk_size(settings.chunk_size, model)
                  if model.device.type == "cuda" else _ON_CPU)
    settings = replace(settings, steps=_STEPS, sizes=settings.sizes[-1:], upsize_at=[],
                       speed=replace(settings.speed, compile=False))
    tasks = [Task("a photo", index) for index in range(at_once)]
    clock = _Clock()
    invert(model, tasks, settings, 0, initial_state(tasks, settings, model, 0), clock)
    return (clock.times[-1] - clock.times[0]) / (_STEPS - 1) / at_once


@dataclass
class _Clock:
    times: list[float] = field(default_factory=list)

    def advance(self, score: Callable[[], float]) -> None:
        score()  # waits for the device
        self.times.append(time.perf_counter())

    def stop(self) -> bool:
        return False

    def save(self, state: State) -> None:
        """Nothing is resumed."""
