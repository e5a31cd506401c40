"""Places names beside points, so that they hide neither points nor each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kt_exp.report.style import BEHIND_TEXT, LETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 7.5  # points, of the text
CLEAR = 4.0  # points kept free around a point
SAMPLES = 40  # points per line segment, to test what a name covers


class Name(NamedTuple):
    """A text for the point at `at`, in data coordinates."""

    at: tuple[float, float]
    text: str
    colour: str


class _Box(NamedTuple):
    left: float
    low: float
    right: float
    high: float

    def holds(self, spots: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Return which of `spots` `(N, 2)` are inside, `(N,)`."""
        inside = ((spots > (self.left - margin, self.low - margin))
                  & (spots < (self.right + margin, self.high + margin)))
        return np.all(inside, axis=1)

    def overlaps(self, other: _Box) -> bool:
        return (self.left < other.right and other.left < self.right
                and self.low < other.high and other.low < self.high)

    def distances(self, spots: np.ndarray) -> np.ndarray:
        """Return the distance of each of `spots` `(N, 2)` from the box, `(N,)`."""
        outside = np.maximum(np.subtract((self.left, self.low), spots),
                             np.subtract(spots, (self.right, self.high)))
        return np.hypot(*np.maximum(outside, 0.0).T)


def write_names(axes: Axes, names: Sequence[Name],
                lines: Sequence[Sequence[tuple[float, float]]],
                bars: Sequence[Sequence[tuple[float, float]]] = ()) -> None:
    """Write each name beside its point, where it covers least of `lines` and of error `bars`.

    A name stays within the axes, does not touch points, and is closest to its own. It is left out
    if there is no room.
    """
    to_points = 72 / axes.figure.dpi
    drawn, across = ([axes.transData.transform(line) * to_points for line in some if len(line)]
                     for some in (lines, bars))
    points = np.concatenate(drawn)
    covered = np.concatenate([*map(_along, [*drawn, *across])])
    (left, low), (right, high) = axes.bbox.get_points() * to_points
    frame, taken = _Box(left, low, right, high), list[_Box]()
    for name in names:
        spot = axes.transData.transform(name.at) * to_points
        boxes = [box for box in _around(spot, name.text) if _inside(box, frame)
                 and not any(map(box.overlaps, taken)) and not box.holds(points, CLEAR).any()
                 and (box.distances(points) >= box.distances(spot[None]) - 1e-6).all()]
        if boxes:
            box = min(boxes, key=lambda box: int(box.holds(covered).sum()))
            taken.append(box)
            axes.annotate(name.text, name.at, (box.left - spot[0], box.low - spot[1]),
                          textcoords="offset points", color=name.colour, fontsize=SIZE,
                          va="bottom", bbox=BEHIND_TEXT, zorder=5)


def _around(spot: np.ndarray, text: str) -> Iterator[_Box]:
    width, height = LETTER * SIZE * len(text), 1.2 * SIZE
    x, y = spot
    columns = (x - CLEAR - 1 - width, x - width / 2, x + CLEAR + 1)
    rows = (y - CLEAR - 1 - height, y - height / 2, y + CLEAR + 1)
    for left, low in ((columns[0], rows[1]), (columns[2], rows[1]), (columns[1], rows[2]),
                      (columns[1], rows[0]), (columns[0], rows[2]), (columns[0], rows[0]),
                      (columns[2], rows[2]), (columns[2], rows[0])):
        yield _Box(left, low, left + width, low + height)


def _along(line: np.ndarray) -> np.ndarray:
    """Return the points `(N, 2)` of a line, and `SAMPLES` points on each of its segments."""
    shares = np.linspace(0, 1, SAMPLES)[:, None]
    pieces = [start + shares * (end - start) for start, end in pairwise(line)]
    return np.concatenate([line, *pieces])


def _inside(box: _Box, frame: _Box) -> bool:
    return (frame.left <= box.left and box.right <= frame.right
            and frame.low <= box.low and box.high <= frame.high)
