"""What a run says about its cost before it starts, and the refusal of one that takes too long."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from kt_exp.cost import EVALUATION, INVERSION, Cost, Item, cost_of
from kt_exp.errors import UserError
from kt_exp.finetune.stage import KIND as FINETUNE
from kt_exp.inversion.speed import seconds_per_image_step
from kt_exp.pipeline import Experiment
from kt_exp.progress import duration
from kt_exp.units import shown_size

log = logging.getLogger(__name__)

# Fewer image steps than this take no hours on any device, and are not timed.
TIMED_FROM = 2000


def say_cost(experiment: Experiment) -> None:
    """Log what the run will compute and write, and how long inversion will take.

    Raises:
        UserError: inversion would take longer than `max_inversion_hours`.
    """
    cost = cost_of(experiment)
    left = [item for item in cost.left(INVERSION) if item.pixels]
    seconds = InversionClock().seconds(experiment, left)
    log.info(cost_line(cost, seconds))
    check_hours(experiment, left, seconds)


def cost_line(cost: Cost, seconds: float | None) -> str:
    """Return the cost in one line; `seconds` is what inversion takes, None if not timed."""
    parts = [_work(cost, INVERSION, "to invert", "step"),
             _work(cost, FINETUNE, "to fine-tune on", "epoch"),
             _work(cost, EVALUATION, "to evaluate", "")]
    about = f", about {duration(seconds)} of inversion" if seconds is not None else ""
    return f"Cost: {'; '.join(filter(None, parts))}; {shown_size(cost.size())} to write{about}"


@dataclass
class InversionClock:
    """Tells how long inversion will take, timed once for jobs that invert alike."""

    timed: list[tuple[tuple[object, ...], float]] = field(default_factory=list)

    def seconds(self, experiment: Experiment, left: Sequence[Item]) -> float | None:
        """Return how long the inversion of images takes; None if it is short."""
        steps = sum(item.steps for item in left)
        if steps < TIMED_FROM:
            return None
        model, settings = experiment.images.inverted_model, experiment.config.inversion
        alike = (experiment.config.model, model.device, experiment.config.precision, settings)
        for known, seconds in self.timed:
            if known == alike:
                return steps * seconds
        self.timed.append((alike, seconds_per_image_step(model, settings, _images(left))))
        return steps * self.timed[-1][1]


def check_hours(experiment: Experiment, left: Sequence[Item], seconds: float | None) -> None:
    """Check the time that inversion takes against `max_inversion_hours`.

    Args:
        left: images that are still to be inverted.

    Raises:
        UserError: it takes longer.
    """
    most = experiment.config.max_inversion_hours
    if seconds is None or most is None or seconds <= 3600 * most:
        return
    steps = sum(item.steps for item in left)
    raise UserError("max_inversion_hours", f"inversion would take about {duration(seconds)} on "
                    f"{experiment.model.device} ({_images(left)} images, {steps} steps of an "
                    f"image), more than {most:g} h", "choose another recipe (inversion=…) or "
                    f"device, or raise it: max_inversion_hours={int(seconds / 3600) + 1}")


def _work(cost: Cost, stage: str, what: str, times: str) -> str:
    every, left = cost.of(stage), cost.left(stage)
    if not every:
        return ""
    count = _images if _images(every) else len
    stored = "" if len(left) == len(every) else f" ({count(every) - count(left)} in the store)"
    if count is len:
        return f"{_counted(len(left), 'closed-form edit')}{stored}"
    rounds = f" × {_rounds(left, times)}" if times and _images(left) else ""
    return f"{_counted(_images(left), 'image')}{rounds} {what}{stored}"


def _images(items: Sequence[Item]) -> int:
    return sum(item.images for item in items)


def _rounds(items: Sequence[Item], noun: str) -> str:
    *others, last = sorted({item.steps // item.images for item in items if item.images})
    return " or ".join([*map(str, others), _counted(last, noun)])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
