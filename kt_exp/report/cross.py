"""Images inverted from one model teach another: do they transfer? (Supplementary B.4, Q1, Q2)"""

from __future__ import annotations

from collections.abc import Sequence

from kt_exp.report.controls import HEADER, Row, cells, data, left_out, measured, scope, shown
from kt_exp.report.grid import Grid, StyledText
from kt_exp.report.grouping import Estimate, grouped
from kt_exp.report.runs import Job, newest
from kt_exp.report.table import summary_line
from kt_exp.results.outcome import INVERTED, Phase

SEEN = {  # columns of the inverted images as the untrained model sees them: phase and metric
    "Images by name": (Phase.baseline, "accuracy"),
    "by description": (Phase.description_prompt, "accuracy"),
    "Fréchet distance": (Phase.baseline, "frechet_distance"),
    "of real halves": (Phase.baseline, "frechet_floor"),
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
            texts = [_shown(metric, one)
                     for (_, metric), one in zip(SEEN.values(), seen, strict=True)]
            grid.rows.append([label, *map(StyledText, texts), *others])
            grid.data.append({"taught": str(taught), **data(row, concepts), **{
                f"images_{phase}_{metric}": one and one.mean
                for (phase, metric), one in zip(SEEN.values(), seen, strict=True)}})
        evidence = [row.evidence for row in trained]
        grid.notes += [StyledText(f"{taught}: {scope(evidence, concepts)}", "soft"),
                       *left_out(some, evidence, concepts)]
    return grid


def _seen(row: Row, concepts: Sequence[str]) -> list[Estimate | None]:
    """Return the numbers of a variant's inverted images; None for noise and for prompts."""
    if row.phase is not Phase.transferred:
        return [None] * len(SEEN)
    return [row.evidence.mean(phase, concepts, INVERTED, metric)
            for phase, metric in SEEN.values()]


def _shown(metric: str, number: Estimate | None) -> str:
    if metric == "accuracy" or number is None:
        return shown(number)
    return f"{number.mean / 100:.3f}"  # estimates are × 100
