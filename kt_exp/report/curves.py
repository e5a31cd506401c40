"""Panels of curves side by side, drawn on one canvas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kt_exp.drawing import ACCENT, INK, LINE, SOFT
from kt_exp.report.bars import draw_bars, ends, width_of
from kt_exp.report.canvas import Canvas
from kt_exp.report.charts import ticks
from kt_exp.report.grouping import shown, shown_alike
from kt_exp.report.marks import ABOVE, Name, place_names

BASE = "base"  # the place of the untrained model
COLOURS = (ACCENT, "#c2571a", "#1a7f42", "#7a4fa3", "#b42318", "#667079")
PANEL_WIDTH, PANEL_HEIGHT = 260.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 16.0, 28.0, 38.0
MARGIN, LEGEND_LINE = 20.0, 18.0
LETTER = 6.6  # px: about the width of one at size 12


@dataclass(frozen=True)
class Curve:
    """Points (place, percent, standard deviation); `marks` are what they are called beside them."""

    label: str
    colour: int
    points: Sequence[tuple[Any, float, float]]
    dashed: bool = False
    marks: Sequence[str] = ()


@dataclass(frozen=True)
class Panel:
    """Curves in one frame: over the `places` in their order, or over numbers (`numeric`).

    With `bars` they are no curves but bars side by side at each place, on a scale from 0.
    """

    title: str
    y_label: str
    x_label: str
    curves: Sequence[Curve]
    places: Sequence[Any] = field(default_factory=list)
    numeric: bool = False
    bars: bool = False


def plot_panels(rows: Sequence[Sequence[Panel]], note: str) -> Canvas:
    """Return the picture: panels in rows, which share their scale, the legend above."""
    legend = _legend([panel for row in rows for panel in row])
    legend = legend if len(legend) > 1 else []
    panel_width = max(_panel_width(panel) for row in rows for panel in row)
    width = 2 * MARGIN + max(len(row) for row in rows) * panel_width
    lines = _wrapped(legend, width - 2 * MARGIN) if legend else []
    top = MARGIN + LEGEND_LINE * len(lines)
    height = top + len(rows) * PANEL_HEIGHT + MARGIN + (LEGEND_LINE if note else 0)
    titles = ", ".join(panel.title for panel in rows[0] if panel.title)
    canvas = Canvas(width, height, f"{' and '.join(row[0].y_label for row in rows)} against "
                                   f"{rows[0][0].x_label or 'concept'}"
                                   + (f": {titles}" if titles else ""))
    _draw_legend(canvas, lines)
    for number, row in enumerate(rows):
        levels = [level for panel in row for curve in panel.curves
                  for _, value, spread in curve.points for level in ends(value, spread)]
        levels += [0.0] if any(panel.bars for panel in row) else []
        scale = ticks(min(levels), max(levels)) if levels else [0.0, 100.0]
        for column, panel in enumerate(row):
            _draw_panel(canvas, panel, MARGIN + column * panel_width, top + number * PANEL_HEIGHT,
                        panel_width, scale)
    if note:
        canvas.words((MARGIN, height - MARGIN / 2), note)
    return canvas


def _panel_width(panel: Panel) -> float:
    """The width at which the words below the axis have room; numbers may be left out there."""
    words = [place for place in panel.places if isinstance(place, str) and place != BASE]
    inside = len(panel.places) * LETTER * (max(map(len, map(shown, words)), default=0) + 1)
    if panel.bars:
        inside = max(inside, width_of(len(panel.curves), len(panel.places)))
    return max(PANEL_WIDTH, LEFT + RIGHT + (inside if words else 0.0))


def _draw_panel(canvas: Canvas, panel: Panel, left: float, top: float, width: float,
                scale: Sequence[float]) -> None:
    x0, x1 = left + LEFT, left + width - RIGHT
    y0, y1 = top + PANEL_HEIGHT - BOTTOM, top + TOP + (ABOVE if panel.bars else 0.0)
    canvas.words((x0, top + 14), panel.title, INK, 13)
    canvas.words((x1, top + 14), f"{panel.y_label} %", SOFT, 11, "end")
    for tick in scale:
        y = y0 + (y1 - y0) * (tick - scale[0]) / (scale[-1] - scale[0])
        canvas.line([(x0, y), (x1, y)], LINE)
        canvas.words((x0 - 6, y + 4), f"{tick:g}", SOFT, 11, "end")
    across, labels = _across(panel, x0, x1)
    for x, label in labels:
        canvas.words((x, y0 + 15), label, SOFT, 11, "middle")
    if panel.x_label:
        canvas.words((x1, y0 + 27), panel.x_label, SOFT, 10, "end")

    def up(value: float) -> float:
        return y0 + (y1 - y0) * (value - scale[0]) / (scale[-1] - scale[0])

    if panel.bars:
        draw_bars(canvas, [(COLOURS[curve.colour], curve.points) for curve in panel.curves],
                  across, up)
        return
    for curve in sorted(panel.curves, key=lambda curve: not curve.dashed):
        _draw_curve(canvas, curve, across, up)
    names = [Name((across(at), up(value)), mark, colour)
             for at, value, mark, colour in _marks(panel.curves)]
    lines = [[(across(at), up(value)) for at, value, _ in curve.points] for curve in panel.curves]
    for name in place_names(names, lines, (x0, y1 - ABOVE, x1 + RIGHT, y0)):
        canvas.words(name.at, name.text, name.colour, 10, halo=True)


def _across(panel: Panel, x0: float,
            x1: float) -> tuple[Callable[[Any], float], list[tuple[float, str]]]:
    """Where a place lies across, and the words below the axis."""
    if panel.numeric:
        values = [at for curve in panel.curves for at, _, _ in curve.points] or [0.0, 100.0]
        marks = ticks(min(values), max(values))

        def place(at: Any) -> float:
            return x0 + (x1 - x0) * (at - marks[0]) / (marks[-1] - marks[0])

        return place, [(place(mark), f"{mark:g}") for mark in marks]
    places = list(panel.places)
    step = (x1 - x0) / max(1, len(places))
    spots = {at: x0 + step * (index + 0.5) for index, at in enumerate(places)}
    return spots.__getitem__, _thinned([(spots[at], name)
                                        for at, name in shown_alike(places).items()])


def _thinned(labels: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """The labels, centred at their places, that have room beside the one before."""
    kept: list[tuple[float, str]] = []
    for x, name in labels:
        if not kept or x - kept[-1][0] >= LETTER * (len(kept[-1][1]) + len(name) + 1) / 2:
            kept.append((x, name))
    return kept


def _draw_curve(canvas: Canvas, curve: Curve, across: Callable[[Any], float],
                up: Callable[[float], float]) -> None:
    colour = COLOURS[curve.colour % len(COLOURS)]
    spots = [(across(at), up(value)) for at, value, _ in curve.points]
    canvas.line(spots, colour, 1.5 if curve.dashed else 2.0, curve.dashed)
    if curve.dashed:
        return
    names = curve.marks or [shown(at) for at, _, _ in curve.points]
    for spot, (_, value, spread), name in zip(spots, curve.points, names, strict=True):
        if spread:
            low, high = ends(value, spread)
            canvas.line([(spot[0], up(low)), (spot[0], up(high))], colour, 1.5)
        canvas.dot(spot, colour, f"{curve.label}, {name}: {value:.1f}%", hollow=name == BASE)


def _marks(curves: Sequence[Curve]) -> list[tuple[Any, float, str, str]]:
    """What points are called, and in which colour.

    Of several curves only the ends are, in their own colours: more would hide the curves.
    """
    marked = [curve for curve in curves if curve.marks]
    names: dict[tuple[Any, float, str, str], None] = {}
    for curve in marked:
        points = [(at, value, mark) for (at, value, _), mark in
                  zip(curve.points, curve.marks, strict=True) if mark]
        for at, value, mark in points if len(marked) == 1 else [*points[:1], *points[-1:]]:
            own = len(marked) > 1 and mark != BASE
            names[at, value, mark, COLOURS[curve.colour % len(COLOURS)] if own else SOFT] = None
    return list(names)


def _legend(panels: Sequence[Panel]) -> list[tuple[str, int, bool]]:
    seen: dict[tuple[str, int, bool], None] = {}
    for panel in panels:
        seen |= dict.fromkeys((c.label, c.colour, c.dashed) for c in panel.curves)
    return list(seen)


def _wrapped(legend: Sequence[tuple[str, int, bool]],
             width: float) -> list[list[tuple[str, int, bool]]]:
    lines: list[list[tuple[str, int, bool]]] = [[]]
    used = 0.0
    for entry in legend:
        needed = _entry_width(entry[0])
        if lines[-1] and used + needed > width:
            lines.append([])
            used = 0.0
        lines[-1].append(entry)
        used += needed
    return lines


def _draw_legend(canvas: Canvas, lines: Sequence[Sequence[tuple[str, int, bool]]]) -> None:
    for row, line in enumerate(lines):
        x, y = MARGIN, MARGIN + LEGEND_LINE * row
        for label, colour, dashed in line:
            canvas.line([(x, y), (x + 24, y)], COLOURS[colour % len(COLOURS)], 2, dashed)
            canvas.words((x + 30, y + 4), label, INK, 12)
            x += _entry_width(label)


def _entry_width(label: str) -> float:
    return 30 + LETTER * len(label) + 18
