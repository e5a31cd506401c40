"""The seen–unseen curve of a concept, as stored in records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 200


@dataclass(frozen=True)
class Curve:
    """Counts of correctly classified images for each γ added to the concept's score, γ rising.

    At the first point no image is assigned to the concept, at the last one every image is: `target`
    rises and `known` falls. Each point has the largest γ that gives its counts.

    Attributes:
        gamma: γ of each of the P points, in the unit of the scores; None (unbounded) for the last.
        target: images of the concept that are assigned to it, of `target_total`.
        known: known images that are assigned to their own class, of `known_total`.
        marks: index of the point of each named γ: "plain" (γ = 0), "target_at_2", …
    """

    gamma: list[float | None]
    target: list[int]
    known: list[int]
    target_total: int
    known_total: int
    marks: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists and numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Curve:
        """Return the curve that `to_json` wrote."""
        return cls(**record)

    def thinned(self, most: int = MOST_POINTS) -> Curve:
        """Return the curve with at most `most` points.

        The first, last and marked points stay; the others are spread evenly along the curve. Of
        points with equal counts only the last stays.

        Raises:
            ValueError: `most` is below the number of points that must stay.
        """
        target, known = np.array(self.target), np.array(self.known)
        # The last of points with equal counts has the largest γ.
        changes = (np.diff(target) != 0) | (np.diff(known) != 0)
        distinct = np.append(np.flatnonzero(changes), len(target) - 1)
        last_equal = distinct[np.searchsorted(distinct, np.arange(len(target)))]
        needed = {int(distinct[0]), int(distinct[-1]),
                  *(int(last_equal[index]) for index in self.marks.values())}
        if most < len(needed):
            raise ValueError(f"{len(needed)} points have to stay, {most} are too few")
        chosen = distinct if len(distinct) <= most else self._spread(distinct, needed, most)
        place = {int(index): number for number, index in enumerate(chosen)}
        return Curve(
            _at(self.gamma, chosen), _at(self.target, chosen), _at(self.known, chosen),
            self.target_total, self.known_total,
            {name: place[int(last_equal[index])] for name, index in self.marks.items()})

    def _spread(self, distinct: NDArray[np.int64], needed: set[int],
                most: int) -> NDArray[np.int64]:
        """Return `needed` and points at even distances along the curve, in the unit square."""
        way = (np.array(self.target)[distinct] / self.target_total
               - np.array(self.known)[distinct] / self.known_total)
        evenly = np.linspace(way[0], way[-1], most - len(needed))
        nearest = np.minimum(np.searchsorted(way, evenly), len(distinct) - 1)
        return np.array(sorted({*needed, *distinct[nearest].tolist()}))


def _at(values: list[Any], indices: Iterable[int]) -> list[Any]:
    return [values[int(index)] for index in indices]
