"""Curves of measured and of published numbers, one per varied setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kt_exp.concepts import name_key
from kt_exp.report.grouping import estimate_mean, grouped, labels, shown
from kt_exp.report.plots.curves import Curve, Point
from kt_exp.report.plots.x_axis import BASE
from kt_exp.report.published import Row, published
from kt_exp.report.runs import Job
from kt_exp.report.table import AFTER, BEFORE, Kind

LR = "finetune.lr"  # the setting along which the paper prints curves
MEASURED = "measured"  # the label of the only series, if nothing else was varied


@dataclass(frozen=True)
class Series:
    """Jobs that differ only in the setting along a curve."""

    number: int
    label: str
    jobs: Sequence[Job]

    def measured(self, along: str, concepts: Sequence[str], kind: Kind) -> Curve:
        """Return the curve of a measurement over the values of `along`, starting at the base.

        Of several concepts it is the curve of their mean.
        """
        points = []
        if before := estimate_mean(self.jobs, BEFORE, concepts, *kind):
            points.append(Point(BASE, before.mean, tip=_tip(self.label, BASE, before.mean)))
        for (value,), jobs in grouped(self.jobs, [along]).items():
            if after := estimate_mean(jobs, AFTER, concepts, *kind):
                points.append(Point(value, after.mean, after.std or 0.0, after.n,
                                    _tip(self.label, value, after.mean, after.std)))
        return Curve(self.label, self.number, points)

    def published(self, concepts: Sequence[str], kind: Kind) -> list[Curve]:
        """Return the paper's curves over learning rates for a measurement of the jobs.

        There is none of the mean of several concepts.
        """
        if len(concepts) > 1:
            return []
        label = "paper" if self.label == MEASURED else f"{self.label} (paper)"
        rows = [row for table in published().values() if table.curves for row in table.rows]
        curves = [[Point(at, percent, tip=_tip(label, at, percent))
                   for at, percent in self._printed(row, concepts[0], kind)] for row in rows]
        return [Curve(label, self.number, points, published=True) for points in curves if points]

    def _printed(self, row: Row, concept: str, kind: Kind) -> list[tuple[Any, float]]:
        """Return the learning rates and percentages of a row whose settings the jobs have."""
        printed = []
        for cell in row.cells:
            settings = dict(cell.conditions or {})
            rate = settings.pop(LR, None)
            measured = (name_key(cell.concept or ""), cell.split, cell.metric)
            if (measured == (name_key(concept), *kind) and cell.percent is not None
                    and any(job.fits(settings) for job in self.jobs)):
                printed.append((BASE if cell.phase == BEFORE else rate, cell.percent))
        return printed


def series_of(jobs: Sequence[Job], keys: Sequence[str]) -> list[Series]:
    """Return a series for each combination of the values of `keys`."""
    groups = grouped(jobs, keys)
    return [Series(number, ", ".join(map(_named, keys, values, names)) or MEASURED,
                   groups[values])
            for number, (values, names) in enumerate(labels(groups).items())]


def _named(key: str, value: Any, name: str) -> str:
    """Return a value's label: text by itself, a number with its key ("probability 0.5")."""
    return name if isinstance(value, str) else f"{key.split('.')[-1]} {name}"


def _tip(label: str, at: Any, value: float, spread: float | None = None) -> str:
    return f"{label}, {shown(at)}: {value:.1f}%" + (f" ± {spread:.1f}" if spread else "")
