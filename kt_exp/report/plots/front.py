"""Methods as points: target accuracy against the change of known accuracy, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kt_exp.drawing import PAPER, SOFT
from kt_exp.errors import UserError
from kt_exp.report.front import MethodPoint, method_points, shown_seconds
from kt_exp.report.plots.chart import Chart
from kt_exp.report.plots.layout import Captions, Layout, PanelRow
from kt_exp.report.plots.percent import fit_x, fit_y
from kt_exp.report.plots.x_axis import LABEL_HEIGHT, TICKS_HEIGHT
from kt_exp.report.runs import Job
from kt_exp.report.style import house_style, series_colour, series_marker
from kt_exp.results.summary import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 6.6, 3.4  # inches, of the panel
_FRONT: dict[str, Any] = {"color": SOFT, "linewidth": 1.2, "linestyle": "--", "zorder": 1}
_INTERVAL: dict[str, Any] = {"linewidth": 1, "alpha": 0.45, "zorder": 2}


class _Placed(NamedTuple):
    """A method with its place and intervals, in percent and points."""

    method: MethodPoint
    number: int
    known: tuple[float, float, float]  # mean, low, high
    target: tuple[float, float, float]

    @property
    def look(self) -> dict[str, Any]:
        colour = series_colour(self.number)
        return {"color": colour, "marker": series_marker(self.number), "linestyle": "none",
                "markersize": 6, "markerfacecolor": colour if self.method.is_trained else PAPER}

    @property
    def label(self) -> str:
        if not self.method.is_trained or self.method.seconds is None:
            return self.method.label
        return f"{self.method.label}, {shown_seconds(self.method)} s"


class _Panel(NamedTuple):
    title: str
    points: Sequence[_Placed]


def draw_front(jobs: Sequence[Job], _keys: Sequence[str], captions: Captions) -> Chart:
    """Draw a point for each method and for each prompt of the untrained model.

    Filled points are taught models, hollow ones the untrained model; the dashed line joins the
    Pareto front. The legend has the seconds of inversion and fine-tuning where a run took them.

    Raises:
        UserError: as `method_points`, or no method has finite margins.
    """
    methods, concepts = method_points(jobs)
    placed = [_Placed(method, number, *(_percent(gain) for gain in (method.known, method.target)))
              for number, method in enumerate(methods) if method.known and method.target]
    if not placed:
        raise UserError("--kind", "no margins are finite", "choose another kind")
    explained = f"Means over {len(concepts)} concepts; bars: 95 % intervals; hollow: not trained"
    with house_style():
        layout = Layout([PanelRow("Target accuracy (%)", [_Panel("", placed)])], WIDTH,
                        TICKS_HEIGHT + LABEL_HEIGHT, _legend(placed),
                        captions.noting(explained), HEIGHT)
        chart = Chart(layout.figure, "Target against known accuracy of "
                                     f"{', '.join(point.method.label for point in placed)}")
        [place] = layout.places()
        place.axes.set_xlabel("Change of known accuracy (points)")
        _draw(chart, place.axes, placed)
        fit_y(place.axes)
        fit_x([place.axes])
    return chart


def _draw(chart: Chart, axes: Axes, placed: Sequence[_Placed]) -> None:
    axes.margins(x=0.05, y=0.06)
    front = sorted((point.known[0], point.target[0]) for point in placed if point.method.on_front)
    axes.plot(*zip(*front, strict=True), **_FRONT)
    for point in placed:
        (x, left, right), (y, low, high) = point.known, point.target
        axes.plot([left, right], [y, y], color=point.look["color"], **_INTERVAL)
        axes.plot([x, x], [low, high], color=point.look["color"], **_INTERVAL)
        [mark] = axes.plot([x], [y], **point.look, zorder=4, clip_on=False, label=point.label)
        chart.tell(mark, [f"{point.label}: target {y:.1f}%, known {signed(x)} points"])


def _legend(placed: Sequence[_Placed]) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    return [*((Line2D([], [], **point.look), point.label) for point in placed),
            (Line2D([], [], **_FRONT), "Pareto front")]


def _percent(gain: Any) -> tuple[float, float, float]:
    return 100 * gain.mean, 100 * gain.low, 100 * gain.high
