"""Schedules of the image size and the learning rate."""

from __future__ import annotations

import math

from kt_exp.inversion.settings import InversionSettings


def stage_start(settings: InversionSettings, step: int) -> int:
    """Return the first step of the resolution stage that `step` belongs to."""
    return max((at for at in settings.upsize_at if at <= step), default=0)


def size_at(settings: InversionSettings, step: int, model_size: int) -> int:
    """Return the side of the images at `step` in pixels, at most the model's own size."""
    if not settings.sizes:
        return model_size
    stage = sum(at <= step for at in settings.upsize_at)
    return min(settings.sizes[stage], model_size)


def learning_rate(settings: InversionSettings, step: int) -> float:
    """Return the learning rate of `step` (0-based).

    `cosine` is lr · (1 + cos(π t / T)) / 2. T is the whole run, the stage, or a number of steps; in
    the latter two cases t counts from the last upsizing. Beyond T the rate rises again, as in the
    authors' script.
    """
    if settings.lr_schedule == "constant":
        return settings.lr
    if settings.lr_period == "run":
        elapsed, period = step, settings.steps
    else:
        start = stage_start(settings, step)
        elapsed, period = step - start, _period(settings, start)
    return settings.lr * (1 + math.cos(math.pi * elapsed / period)) / 2


def _period(settings: InversionSettings, start: int) -> int:
    if settings.lr_period != "stage":
        return int(settings.lr_period)
    return min((at for at in settings.upsize_at if at > start), default=settings.steps) - start
