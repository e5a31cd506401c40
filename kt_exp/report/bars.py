"""Bars side by side: what was measured of each concept, before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kt_exp.drawing import INK, SOFT
from kt_exp.report.canvas import Canvas

BAR, GAP = 22.0, 3.0  # px
GROUP_GAP = 18.0  # px between the bars of one place and of the next

Bar = tuple[Any, float, float]  # place, percent, standard deviation


def width_of(sets: int, places: int) -> float:
    """Return how wide `sets` bars at each of `places` are."""
    return places * (sets * (BAR + GAP) + GROUP_GAP)


def ends(value: float, spread: float) -> tuple[float, float]:
    """Return how far an error bar reaches: not below 0, and not above 100 if its number is not."""
    return max(0.0, value - spread), min(value + spread, max(100.0, value))


def draw_bars(canvas: Canvas, sets: Sequence[tuple[str, Sequence[Bar]]],
              across: Callable[[Any], float], up: Callable[[float], float]) -> None:
    """Draw each of `sets`, a colour and its bars, beside the others, with the percent above."""
    for index, (colour, bars) in enumerate(sets):
        beside = (index - (len(sets) - 1) / 2) * (BAR + GAP)
        for place, value, spread in bars:
            x, top = across(place) + beside, up(value)
            low, high = ends(value, spread)
            # A hair high where nothing was found, so that it is seen to have been measured.
            canvas.line([(x, up(0.0)), (x, min(top, up(0.0) - 1.0))], colour, BAR)
            if spread:
                canvas.line([(x, up(low)), (x, up(high))], INK, 1.5)
            canvas.words((x, up(high) - 3), f"{value:.1f}".removesuffix(".0"), SOFT, 9,
                         "middle", halo=True)
