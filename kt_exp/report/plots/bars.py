"""Bar charts of concepts: before, with the description as prompt, and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kt_exp.drawing import INK, SOFT
from kt_exp.report.grouping import Estimate, concepts_of, estimate_mean, with_mean
from kt_exp.report.plots.chart import Chart
from kt_exp.report.plots.layout import Captions, Layout, PanelRow, panel_width
from kt_exp.report.plots.percent import error_note, fit_y, percent_label, reach
from kt_exp.report.plots.series import MEASURED, Series, series_of
from kt_exp.report.plots.x_axis import XAxis
from kt_exp.report.runs import Job
from kt_exp.report.style import PHASES, house_style
from kt_exp.report.table import AFTER, BEFORE, Kind, kind_title, kinds_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = (BEFORE, "description_prompt", AFTER)  # phases, from the left
BAR = 0.24  # inches, of a bar with its gap: room for "99.1"
THICKNESS = 0.88  # of a bar, relative to BAR
BETWEEN = 0.8  # gap between concepts, relative to BAR
LEAST = 0.01  # minimum height relative to the highest bar, so that a measured 0 is visible
ABOVE = 0.12  # margin for the numbers above the bars, relative to the scale
NUMBER_SIZE = 7.0  # points


class _Panel(NamedTuple):
    title: str
    concepts: XAxis
    bars: dict[str, dict[str, Estimate]]  # phase → concept → number


def draw_bars(jobs: Sequence[Job], keys: Sequence[str], captions: Captions) -> Chart:
    """Draw one row per measurement, with one panel per combination of values of `keys`.

    The last bars of several concepts are their mean.
    """
    kinds, settings = kinds_of(jobs), series_of(jobs, keys)
    rows = [PanelRow(percent_label(kind), [_panel(one, kind) for one in settings])
            for kind in kinds]
    panels = [panel for row in rows for panel in row.panels if panel]
    phases = [phase for phase in SHOWN if any(panel.bars.get(phase) for panel in panels)]
    most = max(len(panel.concepts.spots) for panel in panels)
    width = max(panel_width(len(settings)), BAR * most * (len(phases) + BETWEEN))
    highest = max(number.mean for panel in panels for bars in panel.bars.values()
                  for number in bars.values())
    errors = error_note(number.n for panel in panels
                        for number in panel.bars.get(AFTER, {}).values())
    with house_style():
        layout = Layout(rows, width, max(panel.concepts.height(72 * width) for panel in panels),
                        _legend(phases), captions.noting(errors))
        chart = Chart(layout.figure, f"{' and '.join(map(kind_title, kinds))} of "
                                     f"{', '.join(concepts_of(jobs))}")
        for place in layout.places():
            place.panel.concepts.prepare(place.axes, 72 * width, place.is_lowest)
            place.axes.margins(y=ABOVE)
            _draw_panel(chart, place.axes, place.panel, phases,
                        BAR * len(place.panel.concepts.spots) / width, LEAST * highest)
        for axes in layout.figure.axes:
            fit_y(axes)
    return chart


def _panel(settings: Series, kind: Kind) -> _Panel | None:
    names = with_mean(concepts_of(settings.jobs))
    bars = {phase: {title: number for title, concepts in names.items()
                    if (number := estimate_mean(settings.jobs, phase, concepts, *kind))}
            for phase in SHOWN}
    concepts = XAxis("", "words", {name: float(place) for place, name in enumerate(names)})
    title = "" if settings.label == MEASURED else settings.label
    return _Panel(title, concepts, bars) if any(bars.values()) else None


def _draw_panel(chart: Chart, axes: Axes, panel: _Panel, phases: Sequence[str],
                step: float, least: float) -> None:
    """Draw the bars of all `phases` side by side, `step` apart and `least` high or higher."""
    for place, phase in enumerate(phases):
        aside = (place - (len(phases) - 1) / 2) * step
        label, colour = PHASES[phase]
        for concept, number in panel.bars[phase].items():
            at = panel.concepts.spots[concept] + aside
            [bar] = axes.bar(at, max(number.mean, least), THICKNESS * step, color=colour,
                             label=f"{concept}, {label}")
            chart.tell(bar, [f"{concept}, {label}: {number.mean:.1f}%"])
            down, up = reach(number.mean, number.std or 0.0 if phase == AFTER else 0.0)
            if down or up:
                axes.plot([at, at], [number.mean - down, number.mean + up], color=INK,
                          linewidth=1.2)
            axes.annotate(f"{number.mean:.1f}".removesuffix(".0"), (at, number.mean + up), (0, 2),
                          textcoords="offset points", ha="center", color=SOFT,
                          fontsize=NUMBER_SIZE)


def _legend(phases: Sequence[str]) -> list[tuple[Any, str]]:
    from matplotlib.patches import Patch

    return [(Patch(color=PHASES[phase][1]), PHASES[phase][0]) for phase in phases]
