"""A sweep as one HTML page that needs nothing beside it: table, plots, and each run."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from kt_exp.atomic import write_atomically
from kt_exp.errors import UserError
from kt_exp.report.canvas import THEMED
from kt_exp.report.curves import plot_panels
from kt_exp.report.grouping import varied
from kt_exp.report.plots import KINDS, panels
from kt_exp.report.runs import Job, newest
from kt_exp.report.status import TONES, state_of, status_grid
from kt_exp.report.table import overview

WIDEST = 1400  # px, of a run's picture
TITLES = {
    "lr": "Against the learning rate", "strategy": "What is trained",
    "names": "Captions with and without the name", "steps": "Against the steps of inversion",
    "tradeoff": "Target against known accuracy", "bars": "Concepts side by side",
}


def write_sweep_page(jobs: Sequence[Job], out: Path) -> Path:
    """Write the page to `out` and return the path.

    Raises:
        UserError: `out` does not end in .html.
    """
    if out.suffix not in (".html", ".htm"):
        raise UserError("--out", f"'{out}' is no HTML file", "end it in .html")
    environment = Environment(loader=PackageLoader("kt_exp.report", "."), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    content = environment.get_template("sweep.html.jinja").render(
        style=_style(environment), grid=overview(jobs), plots=list(_plots(jobs)),
        jobs=[_job(job) for job in jobs], status=status_grid(jobs).title,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, content)
    return out


def _style(environment: Environment) -> Markup:
    """The style of a single run's page, so that both look alike."""
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, "page.html.jinja")
    return Markup(source.partition("<style>")[2].partition("</style>")[0])


def _plots(jobs: Sequence[Job]) -> Iterator[tuple[str, Markup]]:
    for kind in _kinds(jobs):
        try:
            canvas = plot_panels(*panels(jobs, kind))
        except UserError:  # nothing measured yet, or another task
            continue
        yield TITLES.get(kind, f"Against {kind}"), canvas.to_svg(THEMED)


def _kinds(jobs: Sequence[Job]) -> list[str]:
    """The kinds of plot for what the jobs differ in, or for what they measured if in nothing."""
    keys = varied(job for job in newest(jobs) if job.record and job.record.metrics)
    if not keys:
        return ["bars"]
    kinds = [kind for kind, key in KINDS.items() if key in keys] or keys
    if {"strategy", "names"} & {*kinds}:  # which lie over the learning rate as well
        kinds = [kind for kind in kinds if kind != "lr"]
    return [*kinds, "tradeoff"]


def _job(job: Job) -> dict[str, Any]:
    record, state = job.record, state_of(job)
    picture = job.folder / record.files["overview"] if record and "overview" in record.files \
        else None
    return {
        "folder": str(job.folder), "state": state, "tone": TONES[state.name],
        "title": " ".join(job.overrides) or job.folder.name,
        "warnings": record.warnings if record else [],
        "command": shlex.join(record.command) if record else "",
        "picture": _embedded(picture) if picture and picture.is_file() else None,
    }


def _embedded(path: Path) -> str:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        picture = image.convert("RGB")
    picture.thumbnail((WIDEST, picture.height))
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
