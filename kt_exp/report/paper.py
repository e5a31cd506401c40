"""A table of the paper compared with runs: published number, measured one, difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isclose
from statistics import fmean

from kt_exp.errors import UserError
from kt_exp.report.grid import Grid, StyledText
from kt_exp.report.grouping import Estimate, teaching, varied
from kt_exp.report.published import Cell, Table
from kt_exp.report.runs import Job, newest
from kt_exp.report.table import AFTER, Footnotes, estimate, number, worst
from kt_exp.results.summary import MISSING

# Candidates of known images → metric of known accuracy; a run measures both.
KNOWN_CANDIDATES = {"known_only": "known_only", "with_concept": "accuracy"}
_CANDIDATES_NOTE = {
    "known_only": "Known accuracy: among the known classes alone, as the paper's equal baselines "
                  "beside all concepts suggest (--known-candidates with_concept: the other).",
    "with_concept": "Known accuracy: with the new concept among the candidates.",
}
# Settings without effect on the untrained model.
TRAINING = ("finetune.", "inversion.")


@dataclass(frozen=True)
class Filled:
    """A cell of the paper's table with its runs.

    Attributes:
        found: what the runs measured, in percent, if anything.
        state: "measured", or why there is no number: "ambiguous", "failed", "interrupted",
            "pending", "no result" or "not run".
    """

    cell: Cell
    jobs: Sequence[Job]
    found: Estimate | None
    state: str

    @property
    def difference(self) -> float | None:
        """Measured minus published, in percentage points."""
        if self.found is None or self.cell.percent is None:
            return None
        return self.found.mean - self.cell.percent


def fill(table: Table, jobs: Sequence[Job],
         known_candidates: str = "known_only") -> list[list[Filled]]:
    """Return each cell of `table` with its runs.

    `known_candidates` is one of `KNOWN_CANDIDATES`: what known accuracy is compared.

    Raises:
        UserError: the runs cover none of the cells.
    """
    jobs = newest(jobs)
    metric = KNOWN_CANDIDATES[known_candidates]
    rows = [[_fill(replace(cell, metric=metric) if _is_known(cell) else cell, jobs)
             for cell in row.cells] for row in table.rows]
    if not any(filled.jobs for row in rows for filled in row):
        models = {model for row in table.rows for cell in row.cells if (model := _model(cell))}
        raise UserError(
            "--table", f"the runs cover no cell of {table.name}"
            + (f" (models: {', '.join(sorted(models))})" if models else ""),
            "leave --table out for a table of the runs alone; docs/report.md says which settings "
            "a cell asks for")
    if table.mean is not None:
        for filled_row in rows:
            others = [filled for place, filled in enumerate(filled_row) if place != table.mean]
            filled_row[table.mean] = _mean(filled_row[table.mean].cell, others)
    own = [filled_row for row, filled_row in zip(table.rows, rows, strict=True) if not row.mean]
    return [[_mean(filled.cell, [others[column] for others in own])
             for column, filled in enumerate(filled_row)] if row.mean else filled_row
            for row, filled_row in zip(table.rows, rows, strict=True)]


def paper_grid(table: Table, rows: Sequence[Sequence[Filled]], tolerance: float | None) -> Grid:
    """Return `table` with three lines per row: paper, here, and the difference in points.

    A difference above `tolerance` is highlighted.
    """
    sections = len(table.rows[0].labels) > 1
    labels = len(table.rows[0].labels) - sections
    grid = Grid(f"{table.title} – {table.source}, in percent",
                [*[""] * labels, "", *table.columns], [], labels + 1)
    notes = Footnotes()
    section = None
    for row, filled in zip(table.rows, rows, strict=True):
        if sections and row.labels[0] != section:
            section = row.labels[0]
            grid.rows.append([StyledText(section)])
        names = row.labels[sections:]
        grid.rows += _lines(names, filled, notes, tolerance)[:1 if row.reference else None]
        for column, cell in zip(table.columns, filled, strict=True):
            grid.data.append({"table": table.name, "row": " / ".join(row.labels),
                              "column": column, **_data(cell)})
    known = [name for name, metric in KNOWN_CANDIDATES.items()
             for row in rows for filled in row
             if (filled.cell.split, filled.cell.metric) == ("known", metric)]
    references = dict.fromkeys(row.reference for row in table.rows if row.reference)
    own = [filled for row, filled in zip(table.rows, rows, strict=True) if not row.reference]
    grid.notes = [*map(StyledText, table.notes),
                  *(StyledText(_credit(table, reference)) for reference in references),
                  *(StyledText(_CANDIDATES_NOTE[name]) for name in dict.fromkeys(known)),
                  StyledText(_coverage(own)), *notes.lines]
    return grid


def _credit(table: Table, reference: str) -> str:
    """Return the note on the rows of `table` whose numbers are from another work."""
    names = [row.labels[-1] for row in table.rows if row.reference == reference]
    return f"{', '.join(names)}: published values, from {reference}; no run here measures them."


def comparable(rows: Sequence[Sequence[Filled]]) -> int:
    """Return how many cells have both a measured and a published number."""
    return sum(filled.difference is not None for row in rows for filled in row)


def disagreements(rows: Sequence[Sequence[Filled]], tolerance: float) -> list[Filled]:
    """Return the cells that differ by more than `tolerance` points, failed or are ambiguous."""
    return [filled for row in rows for filled in row
            if filled.state in ("failed", "ambiguous")
            or (filled.difference is not None and abs(filled.difference) > tolerance + 1e-9)]


def _fill(cell: Cell, jobs: Sequence[Job]) -> Filled:
    if cell.conditions is None:
        return Filled(cell, [], None, "not run")
    fitting = [job for job in jobs if job.fits(cell.conditions)]
    fitting = fitting if cell.concept is None else teaching(fitting, cell.concept)
    with_value = [job for job in fitting if _value(job, cell) is not None]
    if not with_value:
        without = [job for job in fitting if job.state != "completed"] or fitting
        return Filled(cell, without, None, worst(without) if without else "not run")
    kinds: dict[str, list[Job]] = {}
    for job in with_value:
        kinds.setdefault(_identity(job, cell), []).append(job)
    means = [estimate(alike, cell.phase, cell.concept, cell.split, cell.metric)
             for alike in kinds.values()]
    found = means[0]
    assert found is not None  # each of these jobs has a value
    if not all(other and isclose(other.mean, found.mean, abs_tol=1e-6) for other in means):
        return Filled(cell, with_value, None, "ambiguous")
    if cell.phase != AFTER:
        found = Estimate(found.mean, None, 1)
    return Filled(cell, with_value, found, "measured")


def _is_known(cell: Cell) -> bool:
    return (cell.split, cell.metric) == ("known", "accuracy")


def _value(job: Job, cell: Cell) -> float | None:
    return job.measured(cell.phase, cell.concept, cell.split, cell.metric)


def _identity(job: Job, cell: Cell) -> str:
    """Return the settings that affect the number, for the baseline without those of training."""
    return repr({key: value for key, value in job.identity.items()
                 if cell.phase == AFTER or not key.startswith(TRAINING)})


def _mean(cell: Cell, others: Sequence[Filled]) -> Filled:
    """Return the mean of the cells `others`; without a number if one of them has none."""
    found = [filled.found for filled in others]
    jobs = [job for filled in others for job in filled.jobs]
    if None in found:
        return Filled(cell, [], None, "no result" if jobs else "not run")
    whole = [estimate for estimate in found if estimate is not None]
    mean = Estimate(fmean(estimate.mean for estimate in whole), None,
                    min(estimate.n for estimate in whole))
    return Filled(cell, jobs, mean, "measured")


def _lines(names: Sequence[str], row: Sequence[Filled], notes: Footnotes,
           tolerance: float | None) -> list[list[StyledText]]:
    blank = [StyledText("")] * len(names)
    percents = [filled.cell.percent for filled in row]
    paper = [StyledText(MISSING if percent is None else f"{percent:.2f}", "soft")
             for percent in percents]
    here = [_here(filled, notes) for filled in row]
    lines = [[*map(StyledText, names), StyledText("paper", "soft"), *paper],
             [*blank, StyledText("here"), *here]]
    if any(filled.found for filled in row):
        lines.append([*blank, StyledText("diff", "soft"),
                      *(_difference(filled, tolerance) for filled in row)])
    return lines


def _here(filled: Filled, notes: Footnotes) -> StyledText:
    if filled.found:
        return StyledText(number(filled.found, 2), "bold")
    if filled.state == "not run":
        return StyledText(MISSING)
    if filled.state == "ambiguous":
        keys = ", ".join(varied(filled.jobs))
        return notes.mark_line("ambiguous", f"several runs differ in {keys}: choose by --where")
    return notes.mark(filled.state, filled.jobs)


def _difference(filled: Filled, tolerance: float | None) -> StyledText:
    if filled.difference is None:
        return StyledText("")
    beyond = tolerance is not None and abs(filled.difference) > tolerance + 1e-9
    text = f"{filled.difference:+.2f}" if abs(filled.difference) >= 0.005 else "±0.00"
    return StyledText(text.replace("-", "\N{MINUS SIGN}"), "bad" if beyond else "soft")


def _data(filled: Filled) -> dict[str, object]:
    found = filled.found
    return {
        "published": filled.cell.percent, "measured": found and found.mean,
        "std": found and found.std, "n": found.n if found else 0,
        "difference": filled.difference, "state": filled.state,
        "paths": " ".join(str(job.folder) for job in filled.jobs),
    }


def _coverage(rows: Sequence[Sequence[Filled]]) -> str:
    cells = [filled for row in rows for filled in row]
    measured = [filled.found for filled in cells if filled.found]
    seeds = {estimate.n for estimate in measured if estimate.std is not None}
    over = f"; mean ± standard deviation over {_range(seeds)} seeds" if seeds else ""
    return f"{len(measured)} of {len(cells)} cells measured here{over}."


def _range(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _model(cell: Cell) -> str:
    """Return the name of the model that a cell needs; empty if any will do."""
    conditions = cell.conditions or {}
    name = next((conditions[key] for key in ("model", "model.name", "model._target_")
                 if key in conditions), "")
    return str(name[0] if isinstance(name, list) else name).strip("*.")
