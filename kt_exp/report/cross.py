"""Images inverted from one model teach another: do they transfer? (Supplementary B.4, Q1, Q2)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kt_exp.report.controls import HEADER, Row, cells, data, left_out, measured, scope, shown
from kt_exp.report.grid import Grid, StyledText
from kt_exp.report.grouping import Estimate, grouped
from kt_exp.report.runs import Job, newest
from kt_exp.report.table import summary_line
from kt_exp.results.outcome import INVERTED, Phase

# Columns of the inverted images, as the untrained model sees them: phase, metric, name in the CSV.
SEEN = {
    "Images by name": (Phase.baseline, "accuracy", "images_by_name"),
    "by description": (Phase.description_prompt, "accuracy", "images_by_description"),
    "Fréchet distance": (Phase.baseline, "frechet_distance", "images_frechet_distance"),
    "of real halves": (Phase.baseline, "frechet_floor", "images_frechet_floor"),
}
SHOWN = (Phase.baseline, Phase.description_prompt)  # of what trains nothing


def cross(jobs: Sequence[Job], draws: int = 2000) -> Grid:
    """Return a table for each model that was taught, by the model that its images are from.

    The columns of `controls`, after `SEEN`; means over concepts and seeds.

    Args:
        draws: of the bootstrap, for each interval.

    Raises:
        UserError: as `controls`, for the runs of each model that was taught.
    """
    jobs = newest(jobs)
    grid = Grid(f"{summary_line(jobs)} AUROC × 100; Fréchet distances as they are.",
                (HEADER[0], *SEEN, *HEADER[1:]), [], labels=1)
    for [taught], some in grouped(jobs, ["model"]).items():
        trained, untrained, concepts, _ = measured(some, draws)
        grid.rows.append([StyledText(f"Taught: {taught}")])
        for row in [*trained, *(row for row in untrained if row.phase in SHOWN)]:
            seen = _seen(row, concepts)
            label, *others = cells(row, concepts)
            texts = ["" if seen is None else _shown(name, seen[name]) for name in SEEN]
            grid.rows.append([label, *map(StyledText, texts), *others])
            grid.data.append({"taught": str(taught), **data(row, concepts), **_data(seen or {})})
        evidence = [row.evidence for row in trained]
        grid.notes += [StyledText(f"{taught}: {scope(evidence, concepts)}", "soft"),
                       *left_out(some, evidence, concepts)]
    return grid


def _seen(row: Row, concepts: Sequence[str]) -> dict[str, Estimate | None] | None:
    """Return the numbers of a variant's images under `SEEN`, × 100; None of a prompt."""
    if row.phase is not Phase.transferred:
        return None
    return {title: row.evidence.mean(phase, concepts, INVERTED, metric)
            for title, (phase, metric, _) in SEEN.items()}


def _shown(title: str, number: Estimate | None) -> str:
    if SEEN[title][1] == "accuracy" or number is None:
        return shown(number)
    return f"{number.mean / 100:.3f}"


def _data(seen: Mapping[str, Estimate | None]) -> dict[str, Any]:
    """Return the means for the CSV: accuracies in percent, distances as they are."""
    numbers = {}
    for title, (_, metric, key) in SEEN.items():
        number, unit = seen.get(title), 1 if metric == "accuracy" else 100
        numbers[key] = number and number.mean / unit
    return numbers
