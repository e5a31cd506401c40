"""Which SLURM job runs which job of a sweep, identified by its overrides."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kt_exp.atomic import write_atomically

FOLDER = ".submitit"  # in the sweep's folder
_FILE_NAME = "submitted.json"


def remember(folder: Path, jobs: Mapping[str, Sequence[str]]) -> None:
    """Add jobs (id → overrides) to the list in `folder`, submitit's folder of the sweep."""
    jobs = {**_read(folder), **{job: list(overrides) for job, overrides in jobs.items()}}
    write_atomically(folder / _FILE_NAME, json.dumps(jobs, indent=1) + "\n")


def last_submission(sweep: Path, overrides: Sequence[str]) -> Path | None:
    """Return the folder of the last SLURM job submitted with `overrides`; its name is the job's id.

    None if no such job was submitted.
    """
    ids = [job for job, given in _read(sweep / FOLDER).items() if given == list(overrides)]
    return sweep / FOLDER / ids[-1] if ids else None


def _read(folder: Path) -> dict[str, list[str]]:
    with suppress(OSError, ValueError):
        return dict(json.loads((folder / _FILE_NAME).read_text(encoding="utf-8")))
    return {}
