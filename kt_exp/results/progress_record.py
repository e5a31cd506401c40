"""progress.json: the progress of a running job."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE_NAME = "progress.json"


@dataclass
class Snapshot:
    """The content of progress.json.

    `started` is the start of the current loop; both times are UTC, ISO 8601. `earlier` of the
    `done` steps were done before the job began. Between two loops the description is empty.
    """

    stage: str
    description: str
    done: int
    total: int
    updated: str
    started: str
    earlier: int = 0

    @classmethod
    def new(cls, stage: str, description: str, total: int) -> Snapshot:
        """Return the snapshot of a loop that starts now."""
        return cls(stage, description, 0, total, now(), now())


def read_progress(folder: Path) -> Snapshot | None:
    """Return the last snapshot of a job; None if there is none that can be read."""
    with suppress(OSError, ValueError, TypeError):
        return Snapshot(**json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
    return None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
