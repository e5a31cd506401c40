"""progress.json: how far a running job is."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE_NAME = "progress.json"


@dataclass
class Snapshot:
    """The content of progress.json: `started` (of this step) and `updated` are UTC, ISO 8601.

    `earlier` of the steps that are `done` were so before the job began. Between two steps the
    description is empty.
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
        """Return the snapshot of what begins now."""
        return cls(stage, description, 0, total, now(), now())


def read_progress(folder: Path) -> Snapshot | None:
    """Return what a job wrote last; None where it wrote nothing that can be read."""
    with suppress(OSError, ValueError, TypeError):
        return Snapshot(**json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
    return None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
