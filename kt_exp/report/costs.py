"""Main text Fig. 6: seconds and peak memory of inversion, by the number of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from kt_exp.errors import UserError
from kt_exp.report.grid import Grid, StyledText
from kt_exp.report.grouping import Estimate
from kt_exp.report.published import read_published
from kt_exp.report.runs import Job
from kt_exp.report.table import Footnotes, number, worst
from kt_exp.results.summary import MISSING

STAGE = "inversion"
HEADER = ("Images", "At once", "Seconds: paper", "Seconds", "Peak GiB: paper", "Peak GiB")
# What runs in one table have to share.
ALIKE = ("model.name", "model._target_", "inversion.steps", "precision")


@dataclass(frozen=True)
class PublishedCost:
    """What the paper prints for a number of images; None where it prints nothing."""

    seconds: float | None
    gib: float | None


@dataclass(frozen=True)
class CostTable:
    """A figure of the paper on what inversion costs, by the number of images."""

    name: str
    title: str
    source: str
    notes: tuple[str, ...]
    model: str
    costs: Mapping[int, PublishedCost]


@cache
def published_costs() -> dict[str, CostTable]:
    """Return all tables of costs by name."""
    content = read_published()
    return {name: CostTable(
        name, entry["title"], f"{content['source']} ({entry['source']})", tuple(entry["notes"]),
        entry["model"],
        {row["images"]: PublishedCost(row["seconds"], row["gib"]) for row in entry["rows"]})
        for name, entry in content["costs"].items()}


def cost_grid(table: CostTable, jobs: Sequence[Job]) -> Grid:
    """Return the seconds and the peak memory of inversion, beside the paper's for its model.

    Each row has a number of images in all, and how many of them were optimised at once.

    Raises:
        UserError: the runs differ in more than that, or none inverts images.
    """
    jobs = [job for job in jobs if job.config and job.value("inversion.images")]
    if not jobs:
        raise UserError("--table", f"no run for {table.name}: none inverts images",
                        f"run experiment={table.name}")
    _check_alike(jobs)
    is_papers = jobs[0].value("model.name") == table.model
    groups: dict[tuple[int, int | str], list[Job]] = {}
    for job in jobs:
        groups.setdefault(_key(job), []).append(job)
    keys = [*groups, *((images, "") for images in table.costs
                       if is_papers and images not in {images for images, _ in groups})]
    grid = Grid(_title(table, jobs), HEADER if is_papers else _without_paper(HEADER), [], labels=0)
    notes = Footnotes()
    for images, at_once in sorted(keys, key=lambda key: (key[0], str(key[1]).zfill(9))):
        own = groups.get((images, at_once), [])
        paper = table.costs.get(images, PublishedCost(None, None))
        seconds, gib = _estimate(own, "seconds"), _estimate(own, "peak_gib")
        cells = [StyledText(str(images)), StyledText(str(at_once)), _paper(paper.seconds),
                 _here(seconds, own, notes), _paper(paper.gib), _here(gib, own, notes)]
        grid.rows.append(cells if is_papers else _without_paper(cells))
        grid.data.append({
            "table": table.name, "images": images, "at_once": at_once,
            **({"published_seconds": paper.seconds, "published_gib": paper.gib}
               if is_papers else {}),
            "seconds": seconds and seconds.mean, "peak_gib": gib and gib.mean,
            "n": seconds.n if seconds else 0, "paths": " ".join(str(job.folder) for job in own)})
    grid.notes = [*(StyledText(note) for note in table.notes if is_papers), *notes.lines]
    return grid


def _check_alike(jobs: Sequence[Job]) -> None:
    for key in ALIKE:
        if len(values := {str(job.value(key)) for job in jobs}) > 1:
            raise UserError("--table", f"the runs differ in {key}: {', '.join(sorted(values))}",
                            f"choose one with --where {key}=VALUE")
    devices = {job.record.device for job in jobs if job.record and job.record.device}
    if len(devices) > 1:
        raise UserError("--table", f"the runs were on {', '.join(sorted(devices))}",
                        "give the folders of runs on one device")


def _key(job: Job) -> tuple[int, int | str]:
    """Return the number of images of all concepts, and how many were optimised at once."""
    images = int(job.value("inversion.images")) * max(1, len(job.concepts))
    chunk = job.value("inversion.chunk_size")
    return images, "auto" if chunk == "auto" else min(images, int(chunk))


def _estimate(jobs: Sequence[Job], cost: str) -> Estimate | None:
    """Return `seconds` or `peak_gib` of inversion over the jobs that inverted these images alone.

    Those that found images in the store, or inverted images for rehearsal as well, do not count.
    """
    values = [getattr(job.record, cost).get(STAGE) for job in jobs
              if job.record and job.state == "completed"
              and job.record.reused.get(STAGE) == 0 and not job.record.signatures.get("rehearsal")]
    known = [value for value in values if value is not None]
    return Estimate.of(known) if known else None


def _here(found: Estimate | None, jobs: Sequence[Job], notes: Footnotes) -> StyledText:
    if found:
        return StyledText(number(found, 0 if found.mean >= 100 else 2), "bold")
    if not jobs:
        return StyledText(MISSING)
    if (state := worst(jobs)) != "no result":
        return notes.mark(state, [job for job in jobs if job.state != "completed"])
    return notes.mark_line("not measured", "the images came from the store, others were inverted "
                           "for rehearsal, or the system tells no peak memory")


def _paper(value: float | None) -> StyledText:
    return StyledText(MISSING if value is None else f"{value:g}", "soft")


def _without_paper(cells: Sequence[Any]) -> list[Any]:
    return [cell for place, cell in enumerate(cells) if place not in (2, 4)]


def _title(table: CostTable, jobs: Sequence[Job]) -> str:
    device = next((job.record.device for job in jobs if job.record and job.record.device), "–")
    model = jobs[0].value("model") or jobs[0].value("model.name") or \
        str(jobs[0].value("model._target_")).rsplit(".", 1)[-1]
    return (f"{table.title} – {table.source}; here: {model}, "
            f"{jobs[0].value('inversion.steps')} steps, {device}")
