"""The kinds of plots, and which of them suit given runs.

A new kind is a function that draws jobs (`Draw`), in its own file, and an entry in `KINDS`. The
command, its help and the page of a sweep use that entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kt_exp.errors import UserError, did_you_mean
from kt_exp.report.grouping import shown, varied
from kt_exp.report.methods import OPTION
from kt_exp.report.plots.against import draw_against
from kt_exp.report.plots.bars import draw_bars
from kt_exp.report.plots.chart import FORMATS, Chart
from kt_exp.report.plots.forgetting import draw_forgetting
from kt_exp.report.plots.front import draw_front
from kt_exp.report.plots.layout import Captions
from kt_exp.report.plots.series import LR
from kt_exp.report.plots.tradeoff import draw_tradeoff
from kt_exp.report.runs import Job, newest
from kt_exp.report.shared import what_on_what

# Draws jobs with measurements, distinguished by the given settings, with text above and below.
Draw = Callable[[Sequence[Job], Sequence[str], Captions], Chart]


@dataclass(frozen=True)
class PlotKind:
    """A kind of plot.

    Attributes:
        title: its heading on a page.
        draw: draws it from jobs with measurements, the settings in which they differ, and the
            text above and below.
        needs: the setting that must differ between the jobs, if any.
    """

    title: str
    draw: Draw
    needs: str | None = None


def _over(key: str, title: str, over_rate: bool = False) -> PlotKind:
    """Return a plot over a setting; with `over_rate` over the learning rate if that differs."""
    def draw(jobs: Sequence[Job], keys: Sequence[str], captions: Captions) -> Chart:
        return draw_against(jobs, LR if over_rate and LR in keys else key, keys, captions)

    return PlotKind(title, draw, key)


# Any other varied setting is also a kind.
KINDS = {
    "lr": _over(LR, "Against the learning rate"),  # supplementary Fig. 3
    "strategy": _over("finetune.strategy", "What is trained", over_rate=True),  # suppl. Fig. 6
    "names": _over("finetune.captions", "Captions with and without the name",
                   over_rate=True),  # supplementary Fig. 7
    "steps": _over("inversion.steps", "Against the steps of inversion"),  # main text, Fig. 5
    "forgetting": PlotKind("Target against known accuracy", draw_forgetting),
    "tradeoff": PlotKind("Knowledge or bias: target against known accuracy over all constants",
                         draw_tradeoff),
    "front": PlotKind("Methods: target against known accuracy", draw_front),
    "bars": PlotKind("Concepts side by side", draw_bars),  # main text, Tab. 2
}


def plot_kind(name: str) -> PlotKind:
    """Return a kind of plot by its name, or by the key of a setting."""
    return KINDS.get(name) or _over(name, f"Against {name}")


def draw(jobs: Sequence[Job], name: str, headed: bool = True) -> Chart:
    """Return the plot of the kind `name`; if `headed`, its heading names the model and benchmark.

    Raises:
        UserError: there is no result yet, the kind is unknown, the runs do not differ in the
            plotted setting, or matplotlib is not installed.
    """
    jobs = newest(jobs)
    measured = _measured(jobs)
    if not measured:
        raise UserError("--kind", "none of the runs has measured anything yet",
                        "kt-report status shows how far they are")
    keys, kind = varied(measured), plot_kind(name)
    if kind.needs and kind.needs not in keys:
        raise _alike(measured, name, kind.needs, keys)
    left_out = len(jobs) - len(measured)
    note = f"{left_out} {'run' if left_out == 1 else 'runs'} without a result left out" \
        if left_out else ""
    heading = f"{kind.title}: {what_on_what(measured)}" if headed else ""
    return kind.draw(measured, keys, Captions(heading, note))


def save(jobs: Sequence[Job], name: str, out: Path) -> list[Path]:
    """Write the plot to `out`, in the format of its suffix; without one as PNG and SVG.

    Returns:
        the paths written.

    Raises:
        UserError: the suffix is of another format, or as for `draw`.
    """
    if out.suffix.lower() not in ("", *FORMATS):
        raise UserError("--out", f"'{out}' is neither PNG, SVG nor PDF",
                        "end it in .png, .svg or .pdf")
    chart = draw(jobs, name)
    paths = [out] if out.suffix else [out.with_suffix(".png"), out.with_suffix(".svg")]
    for path in paths:
        chart.save(path)
    return paths


def suitable(jobs: Sequence[Job]) -> list[str]:
    """Return the kinds of plots for the settings in which the jobs differ; else `bars`."""
    jobs = _measured(newest(jobs))
    keys = varied(jobs)
    if len({job.value(OPTION) for job in jobs}) > 1:
        return ["front", "tradeoff"]
    if not keys:
        return ["bars", "tradeoff"]
    kinds = [name for name, kind in KINDS.items() if kind.needs in keys] or keys
    if {"strategy", "names"} & {*kinds}:  # these are over the learning rate as well
        kinds = [name for name in kinds if name != "lr"]
    return [*kinds, "forgetting", "tradeoff"]


def _measured(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if job.record and job.record.metrics]


def _alike(jobs: Sequence[Job], name: str, key: str, keys: Sequence[str]) -> UserError:
    if all(job.value(key) is None for job in jobs):
        return UserError("--kind", f"no kind of plot '{name}', nor a setting of these runs",
                         did_you_mean(name, [*KINDS, *keys], most=20))
    return UserError("--kind", f"{key} is {shown(jobs[0].value(key))} in all runs",
                     "give runs in which it differs, or another kind")
