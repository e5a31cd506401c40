"""A value over the steps of a run, for report.html."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite

from kt_exp.drawing import ACCENT
from kt_exp.report.plots.chart import Chart
from kt_exp.report.style import TICK_SIZE, house_style

SIZE = 4.2, 2.1  # inches
FRAME = 0.15, 0.21, 0.82, 0.75  # left, bottom, width, height, relative to SIZE
MOST_POINTS = 200
MOST_TIPS = 25  # denser ones could not be pointed at


def draw_history(steps: Sequence[float], values: Sequence[float | None], *, x_label: str,
                 y_label: str) -> Chart | None:
    """Draw `values` over `steps`; None, nan and infinity are left out.

    Returns None if no value is finite.
    """
    points = [(x, y) for x, y in zip(steps, values, strict=True) if y is not None and isfinite(y)]
    if not points:
        return None
    first, last = points[0], points[-1]
    with house_style():
        from matplotlib.figure import Figure
        from matplotlib.ticker import FixedLocator, MaxNLocator

        chart = Chart(Figure(SIZE), f"{y_label} over {x_label}: from {first[1]:.3g} at "
                                    f"{first[0]:g} to {last[1]:.3g} at {last[0]:g}")
        axes = chart.figure.add_axes(FRAME)
        axes.plot(*zip(*_thinned(points, MOST_POINTS), strict=True), color=ACCENT,
                  marker="o" if len(points) == 1 else None)
        pointed = _thinned(points, MOST_TIPS)
        [marks] = axes.plot(*zip(*pointed, strict=True), color=ACCENT, linestyle="none",
                            marker="s", markersize=6, alpha=0.0)  # shown on hover
        chart.tell(marks, [f"{x_label} {x:g}: {y:.3g}" for x, y in pointed])
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True) if len(points) > 1
                                     else FixedLocator([last[0]]))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter("{x:.4g}")
        axes.set_xlabel(x_label, fontsize=TICK_SIZE)
        axes.set_ylabel(y_label, fontsize=TICK_SIZE)
    return chart


def _thinned(points: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Return about `most` of the points, evenly spread, always with the last one."""
    stride = ceil(len(points) / most)
    chosen = points[::stride]
    return chosen if chosen[-1] == points[-1] else [*chosen, points[-1]]
