"""What a run measured of its concepts, in a model card's words: gain and forgetting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kt_exp.results.gains import Comparison, PhaseMargins, target_at_gain
from kt_exp.results.intervals import Gain, bootstrap_gain
from kt_exp.results.margins_file import read_margins
from kt_exp.results.outcome import Metric, Phase
from kt_exp.results.record import RunRecord


@dataclass(frozen=True)
class Measured:
    """The measurements of one concept; None where the run has none.

    Attributes:
        target: accuracy on images of the concept, before and after.
        known: accuracy on images of the known classes, before and after.
        forgotten: the change of known accuracy, of the same images, in [−1, 1].
        at_equal_forgetting: target accuracy at 2 points of known accuracy lost, of a constant on
            the name's score alone and after fine-tuning.
        gain: the difference of the latter two, in [−1, 1].
    """

    concept: str
    target: tuple[Metric | None, Metric | None]
    known: tuple[Metric | None, Metric | None]
    forgotten: Gain | None
    at_equal_forgetting: tuple[Metric | None, Metric | None]
    gain: Gain | None


def measured(record: RunRecord, run: Path, concept: str) -> Measured:
    """Return what the run in the folder `run` measured of a concept.

    Raises:
        UserError: its file of margins is damaged.
    """
    def both(split: str, metric: str) -> tuple[Metric | None, Metric | None]:
        before, after = (record.metric(phase, concept, split, metric)
                         for phase in (Phase.baseline, Phase.transferred))
        return before, after

    margins = {phase: found for (phase, name), found in read_margins(run).items()
               if name == concept}
    forgotten = gain = None
    if {Phase.baseline, Phase.transferred} <= margins.keys():
        forgotten, gain = _forgotten(margins), _gain(margins)
    return Measured(concept, both("target", "accuracy"), both("known", "accuracy"), forgotten,
                    both("target", "target_at_2"), gain)


def _forgotten(margins: Mapping[str, PhaseMargins]) -> Gain:
    before, after = (margins[phase].known_right() for phase in (Phase.baseline, Phase.transferred))
    change = after.astype(float) - before

    def resample(generator: np.random.Generator) -> NDArray[np.float64]:
        return np.array([[change[generator.integers(len(change), size=len(change))].mean()]])

    return bootstrap_gain(np.array([[change.mean()]]), resample)


def _gain(margins: Mapping[str, PhaseMargins]) -> Gain | None:
    try:
        return target_at_gain(
            [[Comparison.of(margins[Phase.baseline], margins[Phase.transferred])]])
    except ValueError:  # margins that are not finite
        return None
