"""A sweep as one self-contained HTML page: table, plots, and each run."""

from __future__ import annotations

import base64
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from kt_exp.atomic import write_atomically
from kt_exp.errors import UserError
from kt_exp.report import plots
from kt_exp.report.grid import Grid
from kt_exp.report.grouping import concepts_of
from kt_exp.report.means import mean_overview
from kt_exp.report.page import NO_CHARTS, html_environment
from kt_exp.report.runs import Job
from kt_exp.report.shared import shared_overrides, what_on_what
from kt_exp.report.status import TONES, state_of, status_grid
from kt_exp.report.style import has_matplotlib
from kt_exp.report.table import overview

WIDEST = 1400  # px, of a run's picture
BEFORE_ENDING = " before"  # of the title of a column with the untrained model's numbers
_RATE = re.compile(r"^([\d.]+) (\[[\d.]+–[\d.]+\])$")  # a rate with its interval


def write_sweep_page(jobs: Sequence[Job], out: Path) -> Path:
    """Write the page to `out` and return the path.

    Raises:
        UserError: `out` does not end in .html.
    """
    if out.suffix not in (".html", ".htm"):
        raise UserError("--out", f"'{out}' is no HTML file", "end it in .html")
    full, means, shared = overview(jobs), mean_overview(jobs), shared_overrides(jobs)
    content = html_environment().get_template("sweep.html.jinja").render(
        about=what_on_what(jobs), concepts=concepts_of(jobs), shared=shlex.join(shared),
        grids=[(title, _shown(grid)) for title, grid in
               (("Mean over concepts", means), ("Each concept", full)) if grid],
        notes=full.notes, plots=list(_plots(jobs)),
        no_charts="" if has_matplotlib() else NO_CHARTS,
        jobs=[_job(job, shared) for job in jobs], status=status_grid(jobs).title,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, content)
    return out


def _plots(jobs: Sequence[Job]) -> Iterator[tuple[str, Markup]]:
    for kind in plots.suitable(jobs) if has_matplotlib() else ():
        try:
            chart = plots.draw(jobs, kind, headed=False)
        except UserError:  # nothing measured yet, or another task
            continue
        yield plots.plot_kind(kind).title, chart.svg()


def _shown(grid: Grid) -> Grid:
    """Return `grid` with what is equal in all rows in its header, and intervals on their own line.
    """
    header, labels = list(grid.header), grid.labels
    columns = [list(column) for column in zip(*grid.rows, strict=True)]
    for index in reversed(range(len(columns) - 1)):
        texts = {cell.text for cell in columns[index]}
        if len(grid.rows) == 1 or len(texts) > 1:
            continue
        if index < labels:  # the page's heading says it
            labels -= 1
            del header[index], columns[index]
        elif header[index].endswith(BEFORE_ENDING):
            title = header[index].removesuffix(BEFORE_ENDING)
            header[index:index + 2] = [f"{title} after\nbefore: {texts.pop()}"]
            del columns[index]
    rows = [[cell._replace(text=_RATE.sub(r"\1\n\2", cell.text)) for cell in row]
            for row in zip(*columns, strict=True)]
    return replace(grid, header=header, rows=rows, labels=labels)


def _job(job: Job, shared: Sequence[str]) -> dict[str, Any]:
    record, state = job.record, state_of(job)
    picture, problem = _picture(job)
    return {
        "folder": str(job.folder), "state": state, "tone": TONES[state.name],
        "title": " ".join(one for one in job.overrides if one not in shared)
                 or job.folder.name,
        "warnings": [*(record.warnings if record else []), *problem],
        "command": shlex.join(record.command) if record else "",
        "picture": picture,
    }


def _picture(job: Job) -> tuple[str | None, list[str]]:
    """Return the run's picture as a data URL, if there is one, and what is wrong with it."""
    name = job.record.files.get("overview") if job.record else None
    if name is None:
        return None, []
    path = job.folder / name
    if not path.resolve().is_relative_to(job.folder.resolve()):
        return None, [f"{name} is not in the folder of the run"]
    if not path.is_file():
        return None, []
    try:
        return _embedded(path), []
    except Exception as error:  # On damaged files PIL's decoders raise almost anything.
        return None, [f"{name} cannot be read: {error}"]


def _embedded(path: Path) -> str:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        picture = image.convert("RGB")
    picture.thumbnail((WIDEST, picture.height))
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
