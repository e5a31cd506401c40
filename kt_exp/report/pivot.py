"""The table of a sweep with one setting across, as most of the paper's tables have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kt_exp.errors import UserError
from kt_exp.report.grid import Grid, Words
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


def across(jobs: Sequence[Job], key: str, prompts: bool = False) -> Grid:
    """Return the table of `jobs` with a column for each value of `key`, a row a measurement.

    The first column of numbers is the untrained model; where that differs along the row, it stands
    in each cell. With `prompts` its target accuracy by other prompts is there too.

    Raises:
        UserError: `key` is the same in all runs.
    """
    jobs = newest(jobs)
    placed = [job for job in jobs if job.config]
    keys = varied(placed)
    if key not in keys:
        raise UserError("--across", f"{key} is the same in all runs",
                        f"varied: {', '.join(keys) or 'nothing'}")
    others = [other for other in keys if other != key]
    values = [value for value, in grouped(placed, [key])]
    asked = list(PROMPTS) if prompts else []
    grid = Grid(f"{summary_line(jobs)} Across: {key}.",
                [*others, "concept", "", "before", *(PROMPTS[phase] for phase in asked),
                 *shown_alike(values).values()], [], labels=len(others) + 2)
    notes = Footnotes()
    groups = grouped(placed, others)
    names = labels(groups)
    for settings, some in groups.items():
        for concept in concepts_of(some) or [MISSING]:
            about = teaching(some, concept)
            by_value = grouped(about, [key])
            for index, kind in enumerate(kinds_of(placed)):
                row = [*names[settings], concept] if not index else [""] * (len(others) + 1)
                found = [_shared([by_prompt(some, phase, concept) for some in by_value.values()])
                         if kind == TARGET else Words("") for phase in asked]
                before, *cells = _line([by_value.get((value,), []) for value in values], concept,
                                       kind, notes)
                grid.rows.append([*map(Words, row), Words(kind_title(kind)), before, *found,
                                  *cells])
            for (value,), same in by_value.items():
                shared: dict[str, Any] = dict(zip(others, settings, strict=True))
                grid.data += data({**shared, key: value}, concept, kinds_of(placed), same)
    notes.mark_unplaced(jobs)
    grid.notes = notes.lines
    return grid


def _shared(cells: Sequence[Words]) -> Words:
    """The cell that all columns of a row have, but for those without a result."""
    found = list(dict.fromkeys(cell for cell in cells if cell.text != MISSING))
    return Words("varies", "soft") if len(found) > 1 else found[0] if found else Words(MISSING)


def _line(groups: Sequence[Sequence[Job]], concept: str, kind: Kind,
          notes: Footnotes) -> list[Words]:
    """The cells of a measurement: before, then after for each group of jobs."""
    pairs = [(estimate(some, BEFORE, concept, *kind), estimate(some, AFTER, concept, *kind))
             for some in groups]
    starts = dict.fromkeys(f"{before.mean:.1f}" for before, _ in pairs if before)
    cells = [Words(next(iter(starts), MISSING) if len(starts) < 2 else "")]
    for some, (before, after) in zip(groups, pairs, strict=True):
        start = f"{before.mean:.1f} → " if before and len(starts) > 1 else ""
        cell = Words(f"{start}{number(after)}", tone_of(after, before)) if after else Words(MISSING)
        cells.append(marked(cell, some, notes))
    return cells
