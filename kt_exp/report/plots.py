"""Plots of sweeps: accuracy against what was varied, with the paper's curves dashed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kt_exp.concepts import name_key
from kt_exp.errors import UserError, did_you_mean
from kt_exp.report.curves import BASE, Curve, Panel, plot_panels
from kt_exp.report.grouping import (
    concepts_of,
    grouped,
    labels,
    shown,
    shown_alike,
    sort_key,
    varied,
)
from kt_exp.report.published import published
from kt_exp.report.runs import Job, newest
from kt_exp.report.table import AFTER, BEFORE, Kind, estimate, kind_title, kinds_of

LR = "finetune.lr"
# The setting that each kind of plot needs to vary. Any other setting that does is a kind, too.
KINDS = {
    "lr": LR,  # supplementary Fig. 3
    "strategy": "finetune.strategy",  # supplementary Fig. 6
    "names": "finetune.captions",  # supplementary Fig. 7
    "steps": "inversion.steps",  # main text, Fig. 5
    "tradeoff": None,  # target against known accuracy
    "bars": None,  # main text, Tab. 2: concepts side by side
}
ALONG = (LR, "inversion.steps", "finetune.epochs")  # what a trade-off curve may follow
MEASURED = "measured"  # the only curve, where nothing else was varied
TARGET, KNOWN = ("target", "accuracy"), ("known", "accuracy")
# The bars of a concept, and their colours.
BARS = {BEFORE: ("before", 5), "description_prompt": ("description as prompt", 1),
        AFTER: ("after", 0)}


def draw(jobs: Sequence[Job], kind: str, out: Path) -> list[Path]:
    """Write the plot as `out` (.png or .svg; without an ending both) and return the paths.

    Raises:
        UserError: another ending, no result yet, or runs that do not differ in what is plotted.
    """
    if out.suffix not in ("", ".png", ".svg"):
        raise UserError("--out", f"'{out}' is neither PNG nor SVG", "end it in .png or .svg")
    canvas = plot_panels(*panels(jobs, kind))
    paths = [out] if out.suffix else [out.with_suffix(".png"), out.with_suffix(".svg")]
    out.parent.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path.suffix == ".svg":
            path.write_text(canvas.to_svg(), encoding="utf-8")
        else:
            canvas.save_png(path)
    return paths


def panels(jobs: Sequence[Job], kind: str) -> tuple[list[list[Panel]], str]:
    """Return the panels of a plot, in rows (one a measurement) and columns (one a concept), and
    what to say below it.

    Raises:
        UserError: no result yet, an unknown kind, or runs that do not differ in what is plotted.
    """
    jobs = newest(jobs)
    measured = [job for job in jobs if job.record and job.record.metrics]
    if not measured:
        raise UserError("--kind", "none of the runs has measured anything yet",
                        "kt-report status shows how far they are")
    keys = varied(measured)
    needed = KINDS.get(kind, kind)
    if needed and needed not in keys:
        raise _alike(measured, kind, needed, keys)
    note = _left_out(len(jobs) - len(measured))
    if needed is None:
        return (_bars(measured, keys) if kind == "bars"
                else [_tradeoff(measured, keys)]), note
    x = LR if LR in keys and kind in ("strategy", "names") else needed
    return _against(measured, x, [key for key in keys if key != x]), note


def _alike(jobs: Sequence[Job], kind: str, key: str, keys: Sequence[str]) -> UserError:
    if all(job.value(key) is None for job in jobs):
        return UserError("--kind", f"no kind of plot '{kind}', nor a setting of these runs",
                         did_you_mean(kind, [*KINDS, *keys], most=20))
    return UserError("--kind", f"{key} is {shown(jobs[0].value(key))} in all runs",
                     "give runs in which it differs, or another kind")


@dataclass(frozen=True)
class _Series:
    label: str
    jobs: Sequence[Job]


def _against(jobs: Sequence[Job], x: str, others: Sequence[str]) -> list[list[Panel]]:
    series = _series(jobs, others)
    rows = []
    for kind in kinds_of(jobs):
        row = []
        for concept in concepts_of(jobs):
            curves = []
            for colour, one in enumerate(series):
                curves.append(_measured(one, x, concept, kind, colour))
                curves += _published(one, x, concept, kind, colour)
            row.append(Panel(concept, kind_title(kind), x, [c for c in curves if c.points]))
        rows.append(_aligned(row))
    return rows


def _measured(series: _Series, x: str, concept: str, kind: Kind, colour: int) -> Curve:
    points = []
    if before := estimate(series.jobs, BEFORE, concept, *kind):
        points.append((BASE, before.mean, 0.0))
    for (value,), some in grouped(series.jobs, [x]).items():
        if after := estimate(some, AFTER, concept, *kind):
            points.append((value, after.mean, after.std or 0.0))
    return Curve(series.label, colour, points)


def _published(series: _Series, x: str, concept: str, kind: Kind, colour: int) -> list[Curve]:
    """The paper's rows that the series' runs measure, whatever their learning rate."""
    if x != LR:
        return []
    curves = []
    for table in published().values():
        for row in table.rows if table.curves else ():
            points = []
            for cell in row.cells:
                settings = {key: value for key, value in (cell.conditions or {}).items()
                            if key != x}
                about = (name_key(cell.concept or ""), cell.split, cell.metric)
                if (about == (name_key(concept), *kind) and cell.percent is not None
                        and any(job.fits(settings) for job in series.jobs)):
                    at = BASE if cell.phase == BEFORE else (cell.conditions or {}).get(x)
                    points.append((at, cell.percent, 0.0))
            if points:
                label = f"{series.label} (paper)" if series.label != MEASURED else "paper"
                curves.append(Curve(label, colour, points, dashed=True))
    return curves


def _tradeoff(jobs: Sequence[Job], keys: Sequence[str]) -> list[Panel]:
    along = next((key for key in ALONG if key in keys), None)
    series = _series(jobs, [key for key in keys if key != along])
    row = []
    for concept in concepts_of(jobs):
        curves = []
        for colour, one in enumerate(series):
            target = _measured(one, along or LR, concept, TARGET, colour)
            known = _measured(one, along or LR, concept, KNOWN, colour)
            curve = _joined(target, known)
            # Where nothing lies along the curve, a name would tell what is the same everywhere.
            marks = curve.marks if along else [mark if mark == BASE else "" for mark in curve.marks]
            curves.append(replace(curve, marks=marks))
            if along == LR:
                curves += [_joined(some, other) for some, other in zip(
                    _published(one, LR, concept, TARGET, colour),
                    _published(one, LR, concept, KNOWN, colour), strict=True)]
        row.append(Panel(concept, "Target", "Known %", [c for c in curves if c.points],
                         numeric=True))
    if not any(panel.curves for panel in row):
        raise UserError("--kind", "the runs have no target and known accuracy to trade off",
                        "choose another kind")
    return row


def _bars(jobs: Sequence[Job], keys: Sequence[str]) -> list[list[Panel]]:
    """A row for each measurement, a panel for each setting, in it the concepts side by side."""
    rows = []
    for kind in kinds_of(jobs):
        row = []
        for series in _series(jobs, keys):
            names = concepts_of(series.jobs)
            curves = [Curve(label, colour, [
                (name, found.mean, found.std or 0.0 if phase == AFTER else 0.0) for name in names
                if (found := estimate(series.jobs, phase, name, *kind))])
                for phase, (label, colour) in BARS.items()]
            row.append(Panel("" if series.label == MEASURED else series.label, kind_title(kind), "",
                             [curve for curve in curves if curve.points], names, bars=True))
        rows.append(row)
    return rows


def _joined(target: Curve, known: Curve) -> Curve:
    """The known accuracy across, the target accuracy up, at the settings that have both."""
    there = {at: value for at, value, _ in known.points}
    points = [(there[at], value, 0.0) for at, value, _ in target.points if at in there]
    names = shown_alike(at for at, _, _ in target.points)
    marks = [names[at] for at, _, _ in target.points if at in there]
    return replace(target, points=points, marks=[] if target.dashed else marks)


def _series(jobs: Sequence[Job], keys: Sequence[str]) -> list[_Series]:
    groups = grouped(jobs, keys)
    return [_Series(", ".join(map(_named, keys, values, names)) or MEASURED, groups[values])
            for values, names in labels(groups).items()]


def _named(key: str, value: Any, name: str) -> str:
    """Words say what they are; a number needs its key beside it: "probability 0.5"."""
    return name if isinstance(value, str) else f"{key.split('.')[-1]} {name}"


def _aligned(row: Iterable[Panel]) -> list[Panel]:
    """The panels of a row with the same places across."""
    row = list(row)
    values = {at for panel in row for curve in panel.curves for at, _, _ in curve.points}
    places: list[Any] = sorted(values - {BASE}, key=sort_key)
    return [replace(panel, places=[*([BASE] if BASE in values else []), *places]) for panel in row]


def _left_out(count: int) -> str:
    return f"{count} {'run' if count == 1 else 'runs'} without a result left out" if count else ""
