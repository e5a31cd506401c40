"""The table of a sweep's means: one row per setting, over all of its concepts."""

from __future__ import annotations

from collections.abc import Sequence

from kt_exp.report.grid import Grid, StyledText
from kt_exp.report.grouping import concepts_of, estimate_mean, grouped, labels, varied
from kt_exp.report.runs import Job, newest
from kt_exp.report.table import (
    AFTER,
    BEFORE,
    Kind,
    kind_title,
    kinds_of,
    number,
    tone_of,
    worst,
)
from kt_exp.results.summary import MISSING


def mean_overview(jobs: Sequence[Job]) -> Grid | None:
    """Return the means over the concepts of `jobs`, one row per setting; None for one concept.

    Over several seeds there is the sample standard deviation of the means. A row without a mean
    says why: its runs failed, are pending or lack a concept.
    """
    placed = [job for job in newest(jobs) if job.config]
    concepts, keys, kinds = concepts_of(placed), varied(placed), kinds_of(placed)
    if len(concepts) < 2:
        return None
    header = [*keys, "concepts"]
    for kind in kinds:
        header += [f"{kind_title(kind)} before", "→ after"]
    groups = grouped(placed, keys)
    names = labels(groups)
    rows = []
    for values, group in groups.items():
        own = concepts_of(group)
        cells = [cell for kind in kinds for cell in _cells(group, own, kind)]
        rows.append([*map(StyledText, (*names[values], str(len(own)))), *cells])
    return Grid("", header, rows, labels=len(keys) + 1)


def _cells(jobs: Sequence[Job], concepts: Sequence[str], kind: Kind) -> tuple[StyledText,
                                                                              StyledText]:
    before, after = (estimate_mean(jobs, phase, concepts, *kind) for phase in (BEFORE, AFTER))
    missing = worst(jobs) if any(job.state != "completed" for job in jobs) else MISSING
    return (StyledText(f"{before.mean:.1f}" if before else MISSING),
            StyledText(number(after), tone_of(after, before)) if after else StyledText(missing))
