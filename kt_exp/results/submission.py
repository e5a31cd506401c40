"""Which job of SLURM stands for which job of a sweep: told by its overrides, for status.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kt_exp.atomic import write_atomically

FOLDER = ".submitit"  # in the sweep's
_FILE_NAME = "submitted.json"


def remember(folder: Path, jobs: Mapping[str, Sequence[str]]) -> None:
    """Add a submission to what `folder`, where submitit keeps its files, knows: overrides by id."""
    jobs = {**_read(folder), **{job: list(overrides) for job, overrides in jobs.items()}}
    write_atomically(folder / _FILE_NAME, json.dumps(jobs, indent=1) + "\n")


def last_submission(sweep: Path, overrides: Sequence[str]) -> Path | None:
    """Return the folder, named after its id, of the job that was submitted last with `overrides`.

    None where there is none: it was not submitted to SLURM.
    """
    ids = [job for job, given in _read(sweep / FOLDER).items() if given == list(overrides)]
    return sweep / FOLDER / ids[-1] if ids else None


def _read(folder: Path) -> dict[str, list[str]]:
    with suppress(OSError, ValueError):
        return dict(json.loads((folder / _FILE_NAME).read_text(encoding="utf-8")))
    return {}
