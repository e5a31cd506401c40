"""Pivot table of a sweep: one column per value of a setting, as in most of the paper's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kt_exp.errors import UserError
from kt_exp.report.grid import Grid, StyledText
from kt_exp.report.grouping import concepts_of, grouped, labels, shown_alike, teaching, varied
from kt_exp.report.runs import Job, newest
from kt_exp.report.table import (
    AFTER,
    BEFORE,
    PROMPTS,
    Footnotes,
    Kind,
    by_prompt,
    data,
    estimate,
    kind_title,
    kinds_of,
    marked,
    number,
    summary_line,
    tone_of,
)
from kt_exp.results.summary import MISSING

TARGET = ("target", "accuracy")


def pivot(jobs: Sequence[Job], key: str, prompts: bool = False,
          metrics: Sequence[str] = ()) -> Grid:
    """Return the table of `jobs` with a column for each value of `key` and a row per measurement.

    The first column of numbers is the untrained model. Where it differs along the row, each cell
    shows it as well. `prompts` adds the untrained model's target accuracy with other prompts.

    Raises:
        UserError: `key` is the same in all runs, or one of `metrics` was not measured.
    """
    jobs = newest(jobs)
    placed = [job for job in jobs if job.config]
    keys = varied(placed)
    if key not in keys:
        raise UserError("--pivot", f"{key} is the same in all runs",
                        f"varied: {', '.join(keys) or 'nothing'}")
    kinds = kinds_of(placed, metrics)
    others = [other for other in keys if other != key]
    values = [value for value, in grouped(placed, [key])]
    prompt_phases = list(PROMPTS) if prompts else []
    grid = Grid(f"{summary_line(jobs)} Pivot: {key}.",
                [*others, "concept", "", "before", *(PROMPTS[phase] for phase in prompt_phases),
                 *shown_alike(values).values()], [], labels=len(others) + 2)
    notes = Footnotes()
    groups = grouped(placed, others)
    names = labels(groups)
    for settings, group in groups.items():
        for concept in concepts_of(group) or [MISSING]:
            by_value = grouped(teaching(group, concept), [key])
            for index, kind in enumerate(kinds):
                row = [*names[settings], concept] if not index else [""] * (len(others) + 1)
                by_prompts = [
                    _shared([by_prompt(same, phase, concept) for same in by_value.values()])
                    if kind == TARGET else StyledText("") for phase in prompt_phases]
                before, *cells = _line([by_value.get((value,), []) for value in values], concept,
                                       kind, notes)
                grid.rows.append([*map(StyledText, row), StyledText(kind_title(kind)), before,
                                  *by_prompts, *cells])
            for (value,), same in by_value.items():
                shared: dict[str, Any] = dict(zip(others, settings, strict=True))
                grid.data += data({**shared, key: value}, concept, kinds, same)
    notes.mark_unplaced(jobs)
    grid.notes = notes.lines
    return grid


def _shared(cells: Sequence[StyledText]) -> StyledText:
    """Return the one cell that all columns with a result share, or "varies"."""
    distinct = list(dict.fromkeys(cell for cell in cells if cell.text != MISSING))
    if len(distinct) > 1:
        return StyledText("varies", "soft")
    return distinct[0] if distinct else StyledText(MISSING)


def _line(groups: Sequence[Sequence[Job]], concept: str, kind: Kind,
          notes: Footnotes) -> list[StyledText]:
    """Return the cells of a measurement: before, then after for each group of jobs."""
    pairs = [(estimate(jobs, BEFORE, concept, *kind), estimate(jobs, AFTER, concept, *kind))
             for jobs in groups]
    starts = dict.fromkeys(f"{before.mean:.1f}" for before, _ in pairs if before)
    cells = [StyledText(next(iter(starts), MISSING) if len(starts) < 2 else "")]
    for jobs, (before, after) in zip(groups, pairs, strict=True):
        start = f"{before.mean:.1f} → " if before and len(starts) > 1 else ""
        cell = StyledText(f"{start}{number(after)}", tone_of(after, before)) if after \
            else StyledText(MISSING)
        cells.append(marked(cell, jobs, notes))
    return cells
