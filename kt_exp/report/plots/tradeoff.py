"""Target against known accuracy over all constants on a concept's score: what is bias, what is
more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kt_exp.drawing import PAPER, SOFT
from kt_exp.errors import UserError
from kt_exp.report.grouping import concepts_of, with_mean
from kt_exp.report.plots.chart import Chart
from kt_exp.report.plots.layout import PLAIN, Captions, Layout, PanelRow, panel_width
from kt_exp.report.plots.percent import fit_x
from kt_exp.report.plots.seen_unseen import Line, line_of, measured
from kt_exp.report.plots.series import series_of
from kt_exp.report.plots.x_axis import LABEL_HEIGHT, TICKS_HEIGHT
from kt_exp.report.runs import Job
from kt_exp.report.style import PHASES, SERIES, house_style, series_colour
from kt_exp.report.variants import KEYS, OPTION, has_controls, variants_of
from kt_exp.results.outcome import Phase
from kt_exp.results.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BIAS = "bias alone"
SHOWN_LOSS = 25.0  # points of known accuracy: who loses more has no use of it
GUIDE_LOSS = 2.0  # points: where `target_at_2` is read off
_GUIDE: dict[str, Any] = {"color": SOFT, "linewidth": 1, "linestyle": ":", "zorder": 1}
_ROUNDS = ("-", (0, (5, 1.5, 1, 1.5)), (0, (1, 1.2)))  # lines of variants that share a colour
_DOT: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 5.5}
_CALIBRATED: dict[str, Any] = {"marker": "D", "linestyle": "none", "markersize": 6.5,
                               "markeredgecolor": PAPER, "markeredgewidth": 1}


@dataclass(frozen=True)
class Curves:
    """The curves of one entry of the legend: a phase of some jobs."""

    label: str
    phase: Phase
    jobs: Sequence[Job]
    colour: str
    dashed: bool = False
    line: Any = "-"

    @property
    def look(self) -> dict[str, Any]:
        """How matplotlib draws the line."""
        return {"color": self.colour, "linestyle": "--" if self.dashed else self.line,
                "linewidth": 1.2 if self.dashed else 1.8}


@dataclass(frozen=True)
class Panel:
    """A frame of one concept, or of the mean over several."""

    title: str
    lines: Sequence[tuple[Curves, Line]]


def draw_run(record: RunRecord) -> Chart:
    """Draw the curves of a single run.

    Raises:
        UserError: it has none, or matplotlib is not installed.
    """
    return draw_tradeoff([Job(Path(), record, record.config, record.overrides)], [],
                         PLAIN)


def draw_tradeoff(jobs: Sequence[Job], keys: Sequence[str], captions: Captions) -> Chart:
    """Draw a panel for each concept, and one for their mean, with a curve for each phase.

    Where the runs differ in `keys` there is a curve for each variant after fine-tuning, beside
    bias alone. Seeds and concepts are averaged at equal known loss.

    Raises:
        UserError: no run has a curve.
    """
    entries = _entries(jobs, keys)
    names = [name for name in concepts_of(jobs) if _panel(entries, name, [name]).lines]
    if not names:
        raise UserError("--kind", "the runs hold no curves: they are of an older version, or of "
                        "a task without target and known images",
                        "run them again with on_existing=rerun, or choose another kind")
    panels = [_panel(entries, title, group) for title, group in with_mean(names).items()]
    shown = list(dict.fromkeys(entry.label for panel in panels for entry, _ in panel.lines))
    calibrated = any(line.calibrated for panel in panels for _, line in panel.lines)
    with house_style():
        layout = Layout([PanelRow("Target accuracy (%)", panels)], panel_width(len(panels)),
                        TICKS_HEIGHT + LABEL_HEIGHT,
                        _legend([entry for entry in entries if entry.label in shown], calibrated),
                        captions.noting(_means(panels)))
        chart = Chart(layout.figure, "Target against known accuracy over all constants on the "
                                     f"concept's score: {', '.join(names)}")
        left = max(0.0, min(_left_end(line) for panel in panels for _, line in panel.lines))
        for place in layout.places():
            _draw(chart, place.axes, place.panel, left)
        fit_x(layout.figure.axes)
    return chart


def _entries(jobs: Sequence[Job], keys: Sequence[str]) -> list[Curves]:
    if not keys:
        untrained = [Curves(label, Phase(phase), jobs, colour, dashed=True)
                     for phase, (label, colour) in PHASES.items()
                     if phase not in (Phase.baseline, Phase.transferred, Phase.calibrated)]
        return [Curves(BIAS, Phase.baseline, jobs, SOFT), *untrained,
                Curves("after fine-tuning", Phase.transferred, jobs,
                       PHASES[Phase.transferred][1])]
    beside_controls = {*keys} & {*KEYS, OPTION} and has_controls(jobs)
    labelled = [(one.label, one.jobs) for one in
                (variants_of(jobs) if beside_controls else series_of(jobs, keys))]
    trained = [Curves(label, Phase.transferred, some, series_colour(number),
                      line=_ROUNDS[number // len(SERIES) % len(_ROUNDS)])
               for number, (label, some) in enumerate(labelled)]
    return [*_bias_alone(trained), *trained]


def _bias_alone(trained: Sequence[Curves]) -> list[Curves]:
    """One entry where the untrained model is the same for all, else one for each."""
    jobs = [job for entry in trained for job in entry.jobs]
    if not _untrained_differ(jobs):
        return [Curves(BIAS, Phase.baseline, jobs, SOFT)]
    return [Curves(f"{entry.label}, {BIAS}", Phase.baseline, entry.jobs, entry.colour, dashed=True)
            for entry in trained]


def _untrained_differ(jobs: Sequence[Job]) -> bool:
    """Tell whether two jobs have different untrained models: other curves of the same concept."""
    for name in concepts_of(jobs):
        found = measured(jobs, Phase.baseline, name)
        if any(one.curve != found[0].curve for one in found):
            return True
    return False


def _panel(entries: Sequence[Curves], title: str, names: Sequence[str]) -> Panel:
    """Return the lines of all entries that have every one of the concepts `names`."""
    lines = []
    for entry in entries:
        by_concept = [measured(entry.jobs, entry.phase, name) for name in names]
        if entry.phase != Phase.transferred:  # the untrained model is the same for all seeds
            by_concept = [found[:1] for found in by_concept]
        if all(by_concept):
            lines.append((entry, line_of([one for found in by_concept for one in found])))
    return Panel(title, lines)


def _left_end(line: Line) -> float:
    """Return the known accuracy down to which `line` is drawn: its dots, and where it still rises.

    Who loses more than `SHOWN_LOSS` has no use of what is gained there.
    """
    highest = float(line.known[line.target >= line.target.max() - 1e-9].max())
    dots = [line.plain[0], (line.calibrated or line.plain)[0]]
    return min(max(line.reference - SHOWN_LOSS, highest - 1), *(known - 1 for known in dots))


def _means(panels: Sequence[Panel]) -> str:
    several = any(entry.phase == Phase.transferred and line.curves > 1
                  for panel in panels for entry, line in panel.lines)
    return "Means: target accuracy at equal loss; a dot is the mean of dots" if several else ""


def _legend(entries: Sequence[Curves], calibrated: bool) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    return [*((Line2D([], [], **entry.look), entry.label) for entry in entries),
            (Line2D([], [], **_DOT, color=SOFT), "no constant added"),
            *([(Line2D([], [], **_CALIBRATED, color=SOFT), "calibrated on other images")]
              if calibrated else []),
            (Line2D([], [], **_GUIDE), f"{GUIDE_LOSS:g} known points lost")]


def _draw(chart: Chart, axes: Axes, panel: Panel, left: float) -> None:
    """Draw the curves right of `left`, a known accuracy in percent, and their dots."""
    axes.margins(x=0.04)
    axes.set_xlabel("Known accuracy (%)")
    axes.set_ylim(-4, 104)
    axes.set_yticks(range(0, 101, 20))
    for reference in {round(line.reference, 6) for _, line in panel.lines}:
        axes.axvline(reference - GUIDE_LOSS, **_GUIDE)
    for entry, line in panel.lines:
        shown = line.known >= left
        known, target = line.known[shown], line.target[shown]
        if not shown.all():
            # Up to the left edge, where the curve goes on.
            known = np.append(known, left)
            target = np.append(target, np.interp(left, line.known[::-1], line.target[::-1]))
        axes.plot(known, target, **entry.look, label=entry.label)
    for entry, line in sorted(panel.lines, key=lambda drawn: not drawn[0].dashed):
        [dot] = axes.plot(*([value] for value in line.plain), color=entry.colour,
                          **_DOT | ({"markersize": 4} if entry.dashed else {}), zorder=4)
        chart.tell(dot, [f"{entry.label}: target {line.plain[1]:.1f}%, "
                         f"known {line.plain[0]:.1f}%"])
        if line.calibrated:
            [diamond] = axes.plot(*([value] for value in line.calibrated), color=entry.colour,
                                  **_CALIBRATED, zorder=5)
            chart.tell(diamond, [f"{entry.label}, calibrated: target {line.calibrated[1]:.1f}%, "
                                 f"known {line.calibrated[0]:.1f}%"])
