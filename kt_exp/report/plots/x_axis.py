"""The x axis of a setting's values: to scale if they are numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log, radians, sin
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from kt_exp.report.grouping import shown_alike, sort_key
from kt_exp.report.style import LETTER, TICK_SIZE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASE = "base"  # the value of the untrained model, left of all others
DECADE = 10.0  # ratio of the largest to the smallest number from which the scale is logarithmic
GAP = 0.3 * TICK_SIZE  # points, minimum between two labels
SLANT = 30  # degrees, of words that do not fit side by side
TICKS_HEIGHT, LABEL_HEIGHT = 16.0, 14.0  # points, of horizontal tick labels and the axis label


@dataclass(frozen=True)
class XAxis:
    """An axis of values.

    Attributes:
        scale: "log" or "linear" for numbers, "words" for anything else, evenly spaced.
        spots: position of each value, in data coordinates. Values that a logarithmic scale cannot
            show (`BASE`, 0) are left of it.
    """

    label: str
    scale: Literal["log", "linear", "words"]
    spots: Mapping[Any, float]

    def prepare(self, axes: Axes, width: float, labelled: bool) -> None:
        """Apply this axis to `axes`, `width` points wide; with tick labels if `labelled`."""
        from matplotlib.ticker import NullLocator

        if self.scale == "log":
            axes.set_xscale("log")
        axes.set_xlim(*self._limits())
        texts = self._texts(width) if labelled else [""] * len(self.spots)
        axes.set_xticks([*self.spots.values()], texts)
        if self.is_slanted(width):
            for text in axes.get_xticklabels():
                text.set(rotation=SLANT, ha="right", rotation_mode="anchor")
        axes.xaxis.set_minor_locator(NullLocator())
        if labelled:
            axes.set_xlabel(self.label)

    def is_slanted(self, width: float) -> bool:
        """Return whether the words do not fit side by side on `width` points."""
        return self.scale == "words" and "" in self._roomy(width)

    def height(self, width: float) -> float:
        """Return the height of the text below the axis, in points."""
        longest = LETTER * TICK_SIZE * max(
            map(len, shown_alike(self.spots).values()), default=0)
        slanted = sin(radians(SLANT)) * longest if self.is_slanted(width) else 0.0
        return TICKS_HEIGHT + slanted + (LABEL_HEIGHT if self.label else 0.0)

    def _texts(self, width: float) -> list[str]:
        return [*shown_alike(self.spots).values()] if self.scale == "words" \
            else self._roomy(width)

    def _roomy(self, width: float) -> list[str]:
        """Return the labels that fit on `width` points, "" for others; the ends have priority."""
        texts = [*shown_alike(self.spots).values()]
        places = [width * share for share in self._shares()]
        halves = [LETTER * TICK_SIZE * len(text) / 2 for text in texts]
        fitting: list[int] = []
        for index in sorted(range(len(texts)), key=lambda index: 0 < index < len(texts) - 1):
            if all(abs(places[index] - places[other]) >= halves[index] + halves[other] + GAP
                   for other in fitting):
                fitting.append(index)
        return [text if index in fitting else "" for index, text in enumerate(texts)]

    def _shares(self) -> list[float]:
        """Return the positions of the values, relative to the axis' width."""
        def scaled(x: float) -> float:
            return log(x) if self.scale == "log" else x

        low, high = map(scaled, self._limits())
        return [(scaled(x) - low) / (high - low) for x in self.spots.values()]

    def _limits(self) -> tuple[float, float]:
        low = min(self.spots.values(), default=0.0)
        high = max(self.spots.values(), default=0.0)
        if self.scale == "log":
            margin = (high / low) ** 0.07
            return low / margin, high * margin
        margin = 0.5 if self.scale == "words" else 0.07 * (high - low)
        return low - margin, high + margin


def x_axis(values: Iterable[Any], label: str, logarithmic: bool = False) -> XAxis:
    """Return the axis for `values`: numbers in numeric order, then words alphabetically.

    `BASE`, if present, comes first. The scale of numbers is logarithmic if `logarithmic`, or if
    they span a decade or more. A single value is treated as a word.
    """
    given = set(values)
    plain = sorted(given - {BASE}, key=sort_key)
    base = [BASE] if BASE in given else []
    if len(plain) < 2 or not all(map(_is_number, plain)):
        return XAxis(label, "words", {value: float(place)
                                      for place, value in enumerate([*base, *plain])})
    positive = [value for value in plain if value > 0]
    spans = plain[0] >= 0 and len(positive) > 1 and positive[-1] / positive[0] >= DECADE
    if spans or (logarithmic and plain[0] > 0):
        lead_in, step = [*base, *plain[:-len(positive)]], _typical(positive, ratio=True)
        left = {value: positive[0] / step ** (len(lead_in) - place)
                for place, value in enumerate(lead_in)}
        return XAxis(label, "log", left | {value: float(value) for value in positive})
    step = _typical(plain, ratio=False)
    return XAxis(label, "linear", {**dict.fromkeys(base, plain[0] - step),
                                   **{value: float(value) for value in plain}})


def _typical(values: Sequence[float], ratio: bool) -> float:
    """Return the median step between neighbours."""
    return median(high / low if ratio else high - low for low, high in pairwise(values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
