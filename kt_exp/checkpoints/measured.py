"""What a run measured of its concepts, in a model card's words: gain and forgetting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kt_exp.results.gains import (
    Comparison,
    PhaseMargins,
    known_change,
    mean_interval,
    target_at_gain,
)
from kt_exp.results.intervals import Gain
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
    margins = {phase: found for (phase, name), found in read_margins(run).items()
               if name == concept}
    return measured_of(record.metrics, margins, concept)


def measured_of(metrics: Sequence[Metric], margins: Mapping[str, PhaseMargins],
                concept: str) -> Measured:
    """Return what was measured of a concept, from its metrics and its margins by phase."""
    rows = {(row.phase, row.split, row.metric): row for row in metrics if row.concept == concept}

    def both(split: str, metric: str) -> tuple[Metric | None, Metric | None]:
        return (rows.get((Phase.baseline, split, metric)),
                rows.get((Phase.transferred, split, metric)))

    forgotten = gain = None
    if {Phase.baseline, Phase.transferred} <= margins.keys():
        pair = [[Comparison.of(margins[Phase.baseline], margins[Phase.transferred])]]
        with suppress(ValueError):  # margins that are not finite
            if len(pair[0][0].reference) and len(pair[0][0].after.target):
                forgotten, gain = mean_interval(pair, known_change), target_at_gain(pair)
    return Measured(concept, both("target", "accuracy"), both("known", "accuracy"), forgotten,
                    both("target", "target_at_2"), gain)
