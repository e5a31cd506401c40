"""Panels in rows and columns under one legend; columns that do not fit continue below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from textwrap import fill
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from kt_exp.drawing import SOFT
from kt_exp.report.style import LETTER, TEXT_SIZE, TICK_SIZE, TITLE_SIZE

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Titled(Protocol):
    """A panel with a title, which may be empty."""

    @property
    def title(self) -> str: ...


Panel = TypeVar("Panel", bound=Titled)
# Inches.
WIDEST = 9.6
LEFT, RIGHT, TOP, BOTTOM = 0.68, 0.16, 0.1, 0.08
BETWEEN_COLUMNS, BETWEEN_ROWS, TITLE, LINE = 0.24, 0.2, 0.34, 0.2
WIDTHS = {1: 4.2, 2: 3.4, 3: 2.6}  # of a panel, by the number of columns
WIDTH = 1.98  # of a panel, with more columns
KEY = 5.2  # width of a legend entry's sample with its margins, relative to the font size
HEIGHT, HEIGHT_ALONE = 1.5, 2.1  # of a panel, in one of several rows or in a single one


class Captions(NamedTuple):
    """The text of a figure: a heading above its legend, and a line below its panels."""

    heading: str = ""
    note: str = ""

    def noting(self, *more: str) -> Captions:
        """Return the captions with more text in the line below."""
        return self._replace(note="   ".join(filter(None, (self.note, *more))))


PLAIN = Captions()


@dataclass(frozen=True)
class PanelRow(Generic[Panel]):
    """Panels side by side that share the y axis; None leaves a place empty."""

    y_label: str
    panels: Sequence[Panel | None]


@dataclass(frozen=True)
class Place(Generic[Panel]):
    """A panel and its axes; `is_lowest` tells whether none is below it."""

    panel: Panel
    axes: Axes
    is_lowest: bool


def panel_width(columns: int) -> float:
    """Return the width of a panel in inches, with `columns` side by side."""
    return WIDTHS.get(columns, WIDTH)


class Layout(Generic[Panel]):
    """A figure with the axes of all panels.

    Args:
        rows: rows with equally many panels.
        width: width of a panel, in inches.
        below: height of the text below a column, in points.
        legend: artists of the legend above, with their texts.
        captions: the text above the legend and below the panels.
        height: height of a panel, in inches; None: by the number of rows.
    """

    def __init__(self, rows: Sequence[PanelRow[Panel]], width: float, below: float,
                 legend: Sequence[tuple[Artist, str]], captions: Captions = PLAIN,
                 height: float | None = None) -> None:
        from matplotlib.figure import Figure

        self._rows, self._width = rows, width
        columns = max(len(row.panels) for row in rows)
        self._abreast = _abreast(columns, width)
        self._height = height or (HEIGHT if len(rows) > 1 else HEIGHT_ALONE)
        entries = [TEXT_SIZE / 72 * (LETTER * len(text) + KEY) for _, text in legend]
        panels = LEFT + self._abreast * (width + BETWEEN_COLUMNS) - BETWEEN_COLUMNS + RIGHT
        self._full_width = max(panels, *entries, 0.0)
        legend_columns = _columns_within(self._full_width, entries)
        heading = fill(captions.heading, int(72 * self._full_width / (LETTER * TITLE_SIZE)))
        title = TOP + LINE * (heading.count("\n") + 1) if heading else 0.0
        self._head = title + (TOP + LINE * ceil(len(legend) / legend_columns) if legend else 0.0)
        self._above = self._title_height()
        self._block = self._above + below / 72 \
            + len(rows) * (self._height + BETWEEN_ROWS) - BETWEEN_ROWS
        full_height = self._head + ceil(columns / self._abreast) * self._block + BOTTOM \
            + (LINE if captions.note else 0.0)
        self.figure: Figure = Figure((self._full_width, full_height))
        if legend:
            handles, texts = zip(*legend, strict=True)
            self.figure.legend(handles, texts, loc="upper left", ncols=legend_columns,
                               bbox_to_anchor=(0.0, 1 - (title + 0.3 * TOP) / full_height))
        if heading:
            self.figure.text(BOTTOM / self._full_width, 1 - TOP / full_height, heading, va="top",
                             fontsize=TITLE_SIZE)
        if captions.note:
            self.figure.text(RIGHT / self._full_width, BOTTOM / full_height, captions.note,
                             color=SOFT, fontsize=TICK_SIZE)

    def places(self) -> Iterator[Place[Panel]]:
        """Yield each panel with its axes, row by row."""
        for number, row in enumerate(self._rows):
            first: Axes | None = None
            for column, panel in enumerate(row.panels):
                if panel is None:
                    continue
                block, across = divmod(column, self._abreast)
                axes = self._axes(number, block, across, first)
                first = first or axes
                others = [index for index, other in enumerate(self._rows)
                          if other.panels[column] is not None]
                is_left = all(one is None for one in row.panels[column - across:column])
                axes.tick_params(labelleft=is_left)
                if is_left:
                    axes.set_ylabel(fill(row.y_label, 24))
                if number == others[0]:
                    axes.set_title(self._title(panel))
                yield Place(panel, axes, number == others[-1])

    def _axes(self, row: int, block: int, across: int, like: Axes | None) -> Axes:
        width, height = self._full_width, self.figure.get_figheight()
        left = LEFT + across * (self._width + BETWEEN_COLUMNS)
        top = self._head + block * self._block + self._above \
            + row * (self._height + BETWEEN_ROWS)
        return self.figure.add_axes((left / width, 1 - (top + self._height) / height,
                                     self._width / width, self._height / height), sharey=like)

    def _title(self, panel: Panel) -> str:
        return fill(panel.title, int(72 * self._width / (LETTER * TITLE_SIZE)))

    def _title_height(self) -> float:
        titles = [self._title(panel) for row in self._rows for panel in row.panels if panel]
        lines = max(title.count("\n") + bool(title) for title in titles)
        return TITLE + LINE * (lines - 1) if lines else TOP


def _abreast(columns: int, width: float) -> int:
    """Return how many columns fit side by side, so that all lines are about equally long."""
    most = int((WIDEST - LEFT - RIGHT + BETWEEN_COLUMNS) / (width + BETWEEN_COLUMNS))
    return ceil(columns / ceil(columns / max(1, most)))


def _columns_within(width: float, entries: Sequence[float]) -> int:
    """Return the largest number of columns in which `entries` fit `width`.

    matplotlib fills the columns from the left; the first ones have one entry more where they are
    uneven.
    """
    for columns in range(len(entries), 1, -1):
        lines, longer = divmod(len(entries), columns)
        ends = [column * lines + min(column, longer) for column in range(columns + 1)]
        if sum(max(entries[start:end]) for start, end in pairwise(ends)) <= width:
            return columns
    return 1
