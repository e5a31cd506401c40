"""The rows of a run's table of inverted images, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from kt_exp.results.outcome import INVERTED, Metric, Phase
from kt_exp.results.record import RunRecord
from kt_exp.results.summary import MISSING, Accuracy

INVERTED_TITLE = "What the untrained model makes of the inverted images, by each prompt:"


@dataclass
class InvertedRow:
    """One concept's inverted images, or the mean of all.

    Attributes:
        by_name: share assigned to the concept by its name.
        by_description: share assigned to it by its description.
        distance: Fréchet distance from real images; None where it could not be measured.
        floor: that of real images from other real ones.
    """

    name: str
    by_name: Accuracy | None
    by_description: Accuracy | None
    distance: float | None
    floor: float | None

    @property
    def distances(self) -> tuple[str, str]:
        """The distance and its floor as "0.412", or a dash."""
        first, second = (MISSING if value is None else f"{value:.3f}"
                         for value in (self.distance, self.floor))
        return first, second


def inverted_rows(record: RunRecord) -> list[InvertedRow]:
    """Return a row per concept with such measurements, and their mean if there are several."""
    def row(name: str) -> InvertedRow | None:
        by_name, by_description = (_accuracy(record.metric(phase, name, INVERTED))
                                   for phase in (Phase.baseline, Phase.description_prompt))
        distance, floor = (row.value if row else None for row in (
            record.metric(Phase.baseline, name, INVERTED, metric)
            for metric in ("frechet_distance", "frechet_floor")))
        if by_name is None:
            return None
        return InvertedRow(name, by_name, by_description, distance, floor)

    rows = [found for concept in record.concepts if (found := row(concept.name))]
    return [*rows, _mean_row(rows)] if len(rows) > 1 else rows


def _mean_row(rows: Sequence[InvertedRow]) -> InvertedRow:
    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if len(known) == len(values) else None

    def accuracy(found: Sequence[Accuracy | None]) -> Accuracy | None:
        value = mean([one.value if one else None for one in found])
        return None if value is None else Accuracy(value)

    return InvertedRow("mean", accuracy([row.by_name for row in rows]),
                       accuracy([row.by_description for row in rows]),
                       mean([row.distance for row in rows]), mean([row.floor for row in rows]))


def _accuracy(row: Metric | None) -> Accuracy | None:
    return None if row is None or row.value is None else Accuracy(row.value, row.count, row.total)
