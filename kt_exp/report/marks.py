"""Names beside the points of curves: near their own, hiding neither a point nor each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import hypot
from typing import NamedTuple

Spot = tuple[float, float]
Box = tuple[float, float, float, float]  # left, upper, right, lower

WIDTH, ABOVE, BELOW = 5.6, 8.0, 2.0  # px: a letter of size 10, and its reach from the base line
DOT = 5.0  # px kept free around a point
SAMPLE = 2.0  # px between the places where a line is looked at


class Name(NamedTuple):
    """A text at a point, or where it begins, on its base line."""

    at: Spot
    text: str
    colour: str


def place_names(names: Sequence[Name], lines: Sequence[Sequence[Spot]],
                frame: Box) -> list[Name]:
    """Return the names of points where they are to be written; those without room are left out.

    Of the places around its point a name takes the one that covers least of the `lines`.
    """
    points = [spot for line in lines for spot in line]
    covered = [spot for line in lines for spot in _along(line)]
    taken: list[Box] = []
    placed = []
    for name in names:
        spot = name.at
        boxes = [(at, box) for at, box in _around(spot, name.text)
                 if _inside(box, frame) and not any(_overlap(box, other) for other in taken)
                 and not any(_holds(box, point, DOT) for point in points)
                 and all(_distance(box, spot) <= _distance(box, point) for point in points)]
        if boxes:
            at, box = min(boxes, key=lambda one: sum(_holds(one[1], place) for place in covered))
            taken.append(box)
            placed.append(name._replace(at=at))
    return placed


def _around(spot: Spot, text: str) -> Iterator[tuple[Spot, Box]]:
    (x, y), width = spot, WIDTH * len(text)
    before, middle, after = x - DOT - 2 - width, x - width / 2, x + DOT + 2
    level, above, below = y + 3, y - DOT - BELOW - 1, y + ABOVE + DOT + 1
    for left, base in ((before, level), (after, level), (middle, above), (middle, below),
                       (before, above), (before, below), (after, above), (after, below)):
        yield (left, base), (left, base - ABOVE, left + width, base + BELOW)


def _along(line: Sequence[Spot]) -> Iterator[Spot]:
    for (x0, y0), (x1, y1) in pairwise(line):
        count = max(1, round(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 / SAMPLE))
        for step in range(count):
            yield x0 + (x1 - x0) * step / count, y0 + (y1 - y0) * step / count


def _holds(box: Box, spot: Spot, margin: float = 0.0) -> bool:
    return (box[0] - margin < spot[0] < box[2] + margin
            and box[1] - margin < spot[1] < box[3] + margin)


def _distance(box: Box, spot: Spot) -> float:
    (left, upper, right, lower), (x, y) = box, spot
    return hypot(max(left - x, 0.0, x - right), max(upper - y, 0.0, y - lower))


def _overlap(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _inside(box: Box, frame: Box) -> bool:
    return frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]
