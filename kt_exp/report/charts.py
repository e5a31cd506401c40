"""Line charts as inline SVG: coloured by the page's CSS, with a title to hover at each point."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 40
MOST_POINTS = 200


def line_chart(steps: Sequence[float], values: Sequence[float | None], *, x_label: str,
               y_label: str) -> Markup:
    """Return an <svg> of `values` over `steps`; None leaves a point out.

    Empty where there is no finite value.
    """
    points = [(x, y) for x, y in zip(steps, values, strict=True) if y is not None]
    if not points:
        return Markup("")
    points = _thinned(points)
    x_low, x_high = points[0][0], points[-1][0]
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        up = (y - y_low) / (y_high - y_low)
        return (LEFT + across * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM))

    first, last = points[0], points[-1]
    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            WIDTH, HEIGHT,
            f"{y_label} over {x_label}: from {first[1]:.3g} at {first[0]:g} "
            f"to {last[1]:.3g} at {last[0]:g}",
        )
    ]
    for tick in y_ticks:
        y = place(x_low, tick)[1]
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            LEFT, WIDTH - RIGHT, y, y))
        parts.append(_text(LEFT - 6, y + 4, f"{tick:g}", "end"))
    for x, anchor in {x_low: "start", x_high: "end"}.items():
        parts.append(_text(place(x, y_low)[0], HEIGHT - BOTTOM + 16, f"{x:g}", anchor))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "middle"))
    line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
    parts.append(Markup('<polyline class="line" points="{}"/>').format(line))
    for point in points:
        parts.append(Markup('<circle class="point" cx="{:.1f}" cy="{:.1f}" r="5"><title>{}</title>'
                            "</circle>").format(*place(*point), f"{x_label} {point[0]:g}: "
                                                f"{point[1]:.3g}"))
    return Markup("").join([*parts, Markup("</svg>")])


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, text)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = math.ceil(len(points) / MOST_POINTS)
    kept = points[::stride]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers, three to six of them, that enclose [low, high]."""
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return [round(count * step, 10) for count in range(first, last + 1)]
