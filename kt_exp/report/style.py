"""The style of charts: colours and markers of series and phases, settings of matplotlib."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kt_exp.drawing import ACCENT, INK, LIGHT, LINE, PALE, PAPER, SOFT
from kt_exp.errors import UserError

# The colours of series, in order: those of Okabe and Ito (2008) with another blue. They are
# distinguishable with any colour vision deficiency. The dark theme has lighter ones.
SERIES = ("accent", "vermilion", "green", "purple", "orange", "sky")
MARKERS = "osD^vPX"  # one more than colours: together they distinguish 42 series
# Label and colour of each phase.
PHASES: Mapping[str, tuple[str, str]] = {
    "baseline": ("before", PALE),
    "name_prompt": ("name as prompt", LIGHT["orange"]),
    "description_prompt": ("description as prompt", LIGHT["vermilion"]),
    "name_and_description": ("name and description", LIGHT["green"]),
    "parts_prompt": ("parts of description", LIGHT["purple"]),
    "transferred": ("after", ACCENT),
    "calibrated": ("calibrated", ACCENT),
}

MISSING = "matplotlib is not installed"
REMEDY = "pip install 'kt_exp[plots]'"
DPI = 200  # of PNG files: twice the resolution on a page
TITLE_SIZE, TEXT_SIZE, TICK_SIZE = 10.0, 9.0, 8.0  # points
LETTER = 0.6  # approximate width of a letter, relative to the font size
BEHIND_TEXT = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.3, "alpha": 0.8}  # on lines
_SETTINGS: dict[Any, Any] = {
    "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "axes.facecolor": "none",
    "font.size": TEXT_SIZE, "axes.labelsize": TEXT_SIZE, "axes.titlesize": TITLE_SIZE,
    "xtick.labelsize": TICK_SIZE, "ytick.labelsize": TICK_SIZE, "legend.fontsize": TEXT_SIZE,
    "text.color": INK, "axes.titlecolor": INK,
    "axes.labelcolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT,
    "text.parse_math": False,  # a "$" in a concept's name is a "$"
    "axes.titlelocation": "left", "axes.titlepad": 7, "axes.edgecolor": LINE,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": LINE,
    "grid.linewidth": 0.8, "xtick.major.size": 3, "ytick.major.size": 0,
    "lines.linewidth": 1.6, "lines.markersize": 4.5, "lines.dashed_pattern": (4, 2.5),
    "legend.frameon": False, "legend.borderaxespad": 0.2, "legend.handlelength": 2.2,
    "svg.fonttype": "none", "svg.hashsalt": "kt_exp", "pdf.fonttype": 42,
}
_ONE_AT_A_TIME = threading.RLock()


def has_matplotlib() -> bool:
    """Return whether matplotlib (extra `plots`) can be imported; imports it if so."""
    try:
        import matplotlib  # noqa: F401
    except (ImportError, AttributeError):  # The latter after an import that was interrupted.
        return False
    return True


@contextmanager
def house_style() -> Iterator[None]:
    """Make matplotlib draw in the project's style within the block.

    Its settings are global to the process: they are restored afterwards, and only one thread draws
    at a time.

    Raises:
        UserError: matplotlib is not installed.
    """
    if not has_matplotlib():
        raise UserError("plots", MISSING, REMEDY)
    import matplotlib

    with _ONE_AT_A_TIME, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def series_colour(index: int) -> str:
    """Return the colour of a series by its index."""
    return LIGHT[SERIES[index % len(SERIES)]]


def series_marker(index: int) -> str:
    """Return matplotlib's marker of a series by its index."""
    return MARKERS[index % len(MARKERS)]
