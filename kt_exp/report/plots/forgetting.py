"""Target against known accuracy: learning against forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kt_exp.errors import UserError
from kt_exp.report.grouping import concepts_of, shown_alike, with_mean
from kt_exp.report.plots.chart import Chart
from kt_exp.report.plots.curves import Curve, Panel, Point, draw_curves
from kt_exp.report.plots.layout import Captions, PanelRow
from kt_exp.report.plots.percent import percent_label
from kt_exp.report.plots.series import LR, Series, series_of
from kt_exp.report.plots.x_axis import BASE
from kt_exp.report.runs import Job

TARGET, KNOWN = ("target", "accuracy"), ("known", "accuracy")
ALONG = (LR, "inversion.steps", "finetune.epochs")  # curves follow the first that is varied


def draw_forgetting(jobs: Sequence[Job], keys: Sequence[str], captions: Captions) -> Chart:
    """Draw a curve along the learning rates (or another of `ALONG`) per value of other `keys`.

    Several concepts have a panel of their mean, too, if some runs measured all of them.

    Raises:
        UserError: no run has both target and known accuracy.
    """
    along = next((key for key in ALONG if key in keys), None)
    series = series_of(jobs, [key for key in keys if key != along])
    concepts = concepts_of(jobs)
    panels = [panel for title, names in with_mean(concepts).items()
              if (panel := _panel(series, along, title, names))]
    if not panels:
        raise UserError("--kind", "the runs have no target and known accuracy to compare",
                        "choose another kind")
    return draw_curves([PanelRow(percent_label(TARGET), panels)], percent_label(KNOWN),
                       f"Target against known accuracy: {', '.join(concepts)}", captions)


def _panel(series: Sequence[Series], along: str | None, title: str,
           concepts: Sequence[str]) -> Panel | None:
    curves = []
    for one in series:
        measured = _joined(one.measured(along or LR, concepts, TARGET),
                           one.measured(along or LR, concepts, KNOWN))
        # Without a setting along the curve, all names would be the same.
        curves.append(_named(measured, only_base=along is None))
        if along == LR:
            curves += map(_joined, one.published(concepts, TARGET), one.published(concepts, KNOWN))
    shown = [curve for curve in curves if curve.points]
    return Panel(title, shown) if shown else None


def _joined(target: Curve, known: Curve) -> Curve:
    """Return a curve with known accuracy as x and target accuracy as y, where both exist."""
    known_at = {point.at: point for point in known.points}
    return replace(target, points=[
        point._replace(x=known_at[point.at].y, x_spread=known_at[point.at].y_spread,
                       tip=f"{point.tip}, known {known_at[point.at].y:.1f}%")
        for point in target.points if point.at in known_at])


def _named(curve: Curve, only_base: bool) -> Curve:
    names = shown_alike(point.at for point in curve.points)

    def name(point: Point) -> str:
        return names[point.at] if point.at == BASE or not only_base else ""

    return replace(curve, points=[point._replace(name=name(point)) for point in curve.points])
