"""Axes of percentages: label, round ticks, and the extent of error bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kt_exp.report.table import Kind, kind_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator

LEAST_SPAN = 2.0  # percentage points, so that a flat curve looks flat
X_TICKS, Y_TICKS = 5, 6  # maximum number of intervals


def percent_label(kind: Kind) -> str:
    """Return the axis label of a measurement: "Target accuracy (%)"."""
    title = kind_title(kind)
    return f"{title}{' accuracy' if title in ('Target', 'Known') else ''} (%)"


def reach(value: float, spread: float) -> tuple[float, float]:
    """Return how far an error bar extends below and above `value`, within 0 to 100."""
    return min(spread, max(0.0, value)), min(spread, max(0.0, 100.0 - value))


def error_note(seeds: Iterable[int]) -> str:
    """Return the explanation of the error bars; "" if every number has a single seed."""
    several = sorted({count for count in seeds if count > 1})
    if not several:
        return ""
    counts = f"{several[0]}" if len(several) == 1 else f"{several[0]} to {several[-1]}"
    return f"Error bars: ±1 standard deviation over {counts} seeds"


def fit_y(axes: Axes) -> None:
    """Give the y axis round ticks; call it after drawing all panels that share the axis."""
    axes.set_ylim(*_wide_enough(*axes.get_ylim()))
    axes.yaxis.set_major_locator(_round_ticks(Y_TICKS))


def fit_x(frames: Sequence[Axes]) -> None:
    """Give all `frames` the same x axis with round ticks and a grid."""
    limits = [frame.get_xlim() for frame in frames]
    shared = _wide_enough(min(low for low, _ in limits), max(high for _, high in limits))
    for frame in frames:
        frame.set_xlim(*shared)
        frame.grid(axis="x")
        frame.xaxis.set_major_locator(_round_ticks(X_TICKS))


def _wide_enough(low: float, high: float) -> tuple[float, float]:
    missing = max(0.0, LEAST_SPAN - (high - low)) / 2
    return low - missing, high + missing


def _round_ticks(most: int) -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most, steps=[1, 2, 5, 10])
