"""Panels of curves: one colour and marker per series; published numbers are dashed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import TYPE_CHECKING, Any, NamedTuple

from kt_exp.drawing import PAPER, SOFT
from kt_exp.report.plots.chart import Chart
from kt_exp.report.plots.labels import Name, write_names
from kt_exp.report.plots.layout import PLAIN, Captions, Layout, PanelRow, panel_width
from kt_exp.report.plots.percent import error_note, fit_x, fit_y, reach
from kt_exp.report.plots.x_axis import BASE, LABEL_HEIGHT, TICKS_HEIGHT, XAxis
from kt_exp.report.style import house_style, series_colour, series_marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNTRAINED = "untrained model"
ASIDE = 0.12  # offset between series over words, relative to the distance of two words
_REFERENCE: dict[str, Any] = {"color": SOFT, "linewidth": 1, "linestyle": ":", "zorder": 1}


class Point(NamedTuple):
    """A mark of a curve, in percent.

    Attributes:
        at: the value of the setting; `BASE` for the untrained model.
        y_spread: the sample standard deviation over `seeds`.
        tip: its tooltip.
        name: the text beside it.
        x: its x coordinate, if not that of its setting.
    """

    at: Any
    y: float
    y_spread: float = 0.0
    seeds: int = 1
    tip: str = ""
    name: str = ""
    x: float = nan
    x_spread: float = 0.0


@dataclass(frozen=True)
class Curve:
    """The points of a series; `series` is its index, the same in all panels of a figure."""

    label: str
    series: int
    points: Sequence[Point]
    published: bool = False


@dataclass(frozen=True)
class Panel:
    """The curves of one frame."""

    title: str
    curves: Sequence[Curve]


def draw_curves(rows: Sequence[PanelRow[Panel]], x: XAxis | str, label: str,
                captions: Captions = PLAIN) -> Chart:
    """Draw curves over the settings of the axis `x`, or over percentages, which `x` names.

    Args:
        label: a sentence that says what the figure shows.
        captions: its note comes before the explanation of the error bars.
    """
    curves = [curve for row in rows for panel in row.panels if panel for curve in panel.curves]
    axis = x if isinstance(x, XAxis) else None
    if axis:
        number = len({curve.series for curve in curves})
        rows = [replace(row, panels=[panel and _over(axis, panel, number) for panel in row.panels])
                for row in rows]
    width = panel_width(len(rows[0].panels))
    errors = error_note(point.seeds for curve in curves for point in curve.points)
    with house_style():
        below = axis.height(72 * width) if axis else TICKS_HEIGHT + LABEL_HEIGHT
        layout = Layout(rows, width, below, _legend(curves, axis), captions.noting(errors))
        chart = Chart(layout.figure, label)
        places = [*layout.places()]
        for place in places:
            if axis:
                axis.prepare(place.axes, 72 * width, place.is_lowest)
                _draw_reference(place.axes, place.panel.curves)
            else:
                place.axes.set_xlabel(str(x))
            for curve in sorted(place.panel.curves, key=lambda curve: not curve.published):
                _draw_curve(chart, place.axes, curve, _style(curve, axis))
        for place in places:
            fit_y(place.axes)
        if not axis:
            fit_x([place.axes for place in places])
        for place in places:
            _write_names(place.axes, place.panel.curves)
    return chart


def _over(axis: XAxis, panel: Panel, number: int) -> Panel:
    """Set the points' x coordinates; over words the `number` series are side by side."""
    def aside(curve: Curve) -> float:
        return ASIDE * (curve.series - (number - 1) / 2) if axis.scale == "words" else 0.0

    return replace(panel, curves=[
        replace(curve, points=[point._replace(x=axis.spots[point.at] + aside(curve))
                               for point in curve.points]) for curve in panel.curves])


def _draw_reference(axes: Axes, curves: Sequence[Curve]) -> None:
    """Draw the untrained model as a line, if all measured curves start at the same value."""
    bases = {point.y for curve in curves if not curve.published for point in curve.points
             if point.at == BASE}
    if len(bases) == 1:
        axes.axhline(*bases, **_REFERENCE)


def _draw_curve(chart: Chart, axes: Axes, curve: Curve, style: dict[str, Any]) -> None:
    axes.margins(x=0.08, y=0.08)
    [line] = axes.plot([point.x for point in curve.points], [point.y for point in curve.points],
                       **style, clip_on=False, label=curve.label)
    chart.tell(line, [point.tip for point in curve.points])
    for point in curve.points:
        for bar in _error_bars(point):
            axes.plot(*zip(*bar, strict=True), color=style["color"], linewidth=1.2)
        if point.at == BASE and not curve.published:
            [hollow] = axes.plot([point.x], [point.y], **style | {"markerfacecolor": PAPER},
                                 clip_on=False)
            chart.tell(hollow, [point.tip])


def _error_bars(point: Point) -> list[list[tuple[float, float]]]:
    """Return the ends of a point's error bars."""
    bars = []
    if point.y_spread:
        down, up = reach(point.y, point.y_spread)
        bars.append([(point.x, point.y - down), (point.x, point.y + up)])
    if point.x_spread:
        down, up = reach(point.x, point.x_spread)
        bars.append([(point.x - down, point.y), (point.x + up, point.y)])
    return bars


def _style(curve: Curve, axis: XAxis | None) -> dict[str, Any]:
    """Return matplotlib's style of the line; words have no order, so no line joins them."""
    line = "none" if axis and axis.scale == "words" else "--" if curve.published else "-"
    return {"color": series_colour(curve.series), "linestyle": line,
            "marker": series_marker(curve.series),
            "markersize": 2.5 if curve.published else None,
            "linewidth": 1.2 if curve.published else None}


def _legend(curves: Sequence[Curve], axis: XAxis | None) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    kinds = {(curve.label, curve.series, curve.published): curve for curve in curves}
    entries = [(Line2D([], [], **_style(curve, axis)), curve.label) for curve in kinds.values()]
    if any(point.at == BASE for curve in curves for point in curve.points):
        style = _REFERENCE | {"marker": "o", "markerfacecolor": PAPER}
        entries.append((Line2D([], [], **style if axis else style | {"linestyle": "none"}),
                        UNTRAINED))
    return entries if len(entries) > 1 else []


def _write_names(axes: Axes, curves: Sequence[Curve]) -> None:
    """Write the points' names; for several curves only at the ends, in the curves' colours."""
    named = [curve for curve in curves if any(point.name for point in curve.points)]
    names: dict[Name, None] = {}
    for curve in named:
        points = [point for point in curve.points if point.name]
        for point in points if len(named) == 1 else [*points[:1], *points[-1:]]:
            own = len(named) > 1 and point.at != BASE
            names[Name((point.x, point.y), point.name,
                       series_colour(curve.series) if own else SOFT)] = None
    if names:
        write_names(axes, [*names], [[(point.x, point.y) for point in curve.points]
                                     for curve in curves],
                    [bar for curve in curves for point in curve.points
                     for bar in _error_bars(point)])
