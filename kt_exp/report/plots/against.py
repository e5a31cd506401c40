"""Accuracy against a varied setting: one panel per concept and measurement."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from kt_exp.report.grouping import concepts_of, with_mean
from kt_exp.report.plots.chart import Chart
from kt_exp.report.plots.curves import Panel, draw_curves
from kt_exp.report.plots.layout import Captions, PanelRow
from kt_exp.report.plots.percent import percent_label
from kt_exp.report.plots.series import LR, Series, series_of
from kt_exp.report.plots.x_axis import x_axis
from kt_exp.report.runs import Job
from kt_exp.report.table import Kind, kind_title, kinds_of

# Display names of settings; others are shown by their key.
NAMES = {LR: "learning rate", "inversion.steps": "steps of inversion",
         "finetune.strategy": "trained", "finetune.captions": "captions"}


def draw_against(jobs: Sequence[Job], key: str, keys: Sequence[str], captions: Captions) -> Chart:
    """Draw the measurements of `jobs` over `key`, one curve per value of the other `keys`.

    Several concepts have a panel of their mean, too, if some runs measured all of them.
    """
    concepts, kinds = concepts_of(jobs), kinds_of(jobs)
    series = series_of(jobs, [other for other in keys if other != key])
    columns = with_mean(concepts)
    panels = [[_panel(series, key, title, names, kind) for title, names in columns.items()]
              for kind in kinds]
    filled = [any(column) for column in zip(*panels, strict=True)]
    rows = [PanelRow(percent_label(kind), [*compress(row, filled)])
            for kind, row in zip(kinds, panels, strict=True)]
    values = [point.at for row in rows for panel in row.panels if panel
              for curve in panel.curves for point in curve.points]
    what = " and ".join(map(kind_title, kinds))
    return draw_curves(rows, x_axis(values, NAMES.get(key, key), logarithmic=key == LR),
                       f"{what} against {NAMES.get(key, key)}: {', '.join(concepts)}", captions)


def _panel(series: Sequence[Series], key: str, title: str, concepts: Sequence[str],
           kind: Kind) -> Panel | None:
    curves = []
    for one in series:
        curves.append(one.measured(key, concepts, kind))
        curves += one.published(concepts, kind) if key == LR else []
    shown = [curve for curve in curves if curve.points]
    return Panel(title, shown) if shown else None
