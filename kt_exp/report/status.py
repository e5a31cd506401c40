"""How far jobs are, from files alone: `progress.json` that a job writes, and its result.json."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Self

from kt_exp.report.grid import Grid, Words
from kt_exp.report.grouping import grouped, labels, varied
from kt_exp.report.progress import Bar, Field, Progress
from kt_exp.report.record import write_atomically
from kt_exp.report.runs import Job
from kt_exp.report.submitted import last_submission
from kt_exp.report.summary import duration

log = logging.getLogger(__name__)

FILE_NAME = "progress.json"
WRITE_SECONDS = 1.0
BEAT_SECONDS = 30.0
SILENCE_SECONDS = 120.0  # after which a job is taken for dead
TONES = {"completed": "good", "running": "", "failed": "bad", "stopped": "warn", "pending": "soft"}


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
        return cls(stage, description, 0, total, _now(), _now())


class ProgressFile:
    """Shows progress as `inner` does, and writes it to `folder/progress.json` for others to read.

    Call `begin` where a stage begins. The file is written at most once a second, whole or not at
    all; where it cannot be written, the job goes on without. While the object is entered it is
    written every half a minute whatever the job does, so that one that loads a model, or waits for
    another run, is seen to live.
    """

    def __init__(self, folder: Path, inner: Progress) -> None:
        self._path, self._inner, self._written = folder / FILE_NAME, inner, 0.0
        self._snapshot = Snapshot.new("", "", 0)
        self._ended = Event()
        self._beats = Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._beats.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._beats.join()

    def begin(self, stage: str) -> None:
        """Write under the name of `stage` from now on."""
        self._write(Snapshot.new(stage, "", 0))

    @contextmanager
    def __call__(self, description: str, total: int) -> Iterator[Bar]:
        snapshot = Snapshot.new(self._snapshot.stage, description, total)
        self._write(snapshot)
        with self._inner(description, total) as bar:
            yield _WrittenBar(bar, snapshot, self._write_at_times)
        self._write(snapshot)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._write(self._snapshot)

    def _write_at_times(self, snapshot: Snapshot) -> None:
        if monotonic() - self._written >= WRITE_SECONDS:
            self._write(snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        self._snapshot, self._written = snapshot, monotonic()
        snapshot.updated = _now()
        try:
            write_atomically(self._path, json.dumps(asdict(snapshot)) + "\n")
        except OSError as error:
            log.debug("%s could not be written: %s", self._path, error)


class _WrittenBar:
    def __init__(self, bar: Bar, snapshot: Snapshot, write: Callable[[Snapshot], None]) -> None:
        self._bar, self._snapshot, self._write = bar, snapshot, write

    def advance(self, n: int = 1, *, earlier: bool = False, **fields: Field) -> None:
        self._bar.advance(n, earlier=earlier, **fields)
        self._snapshot.done += n
        self._snapshot.earlier += n * earlier
        self._write(self._snapshot)


@dataclass(frozen=True)
class State:
    """What a job does: completed, running, failed, stopped or pending; and more in words."""

    name: str
    detail: str


def state_of(job: Job, now: datetime | None = None) -> State:
    """Return what a job does at the time `now` (UTC)."""
    now = now or datetime.now(UTC)
    record = job.record
    if record is None:
        return _unbegun(job)
    if record.status == "completed":
        return State("completed", f"in {duration(record.elapsed() or 0)}")
    if record.status == "failed":
        error = record.error
        told = (error["message"] or error["type"]) if error else ""
        return State("failed", " ".join(told.split()))
    if record.finished is not None:
        return State("stopped", f"interrupted {_ago(record.finished, now)} ago; started "
                     "again, it goes on where it was")
    return _unfinished(job.folder, record.started, now)


def status_grid(jobs: Sequence[Job], now: datetime | None = None) -> Grid:
    """Return the table of `kt-report status`: a line a job, in the order of what was varied."""
    keys = varied(jobs) or _differing(jobs)
    grid = Grid("", [*keys, "state", "", "folder"], [], labels=len(keys) + 3)
    counts: dict[str, int] = dict.fromkeys(TONES, 0)
    placed = [(values if job.config else tuple(_override(job, key) for key in keys), job)
              for values, some in grouped(jobs, keys).items() for job in some]
    names = labels(values for values, _ in placed)
    for values, job in placed:
        state = state_of(job, now)
        counts[state.name] += 1
        grid.rows.append([*map(Words, names[values]), Words(state.name, TONES[state.name]),
                          Words(state.detail), Words(str(job.folder), "soft")])
    grid.title = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return grid


def _unbegun(job: Job) -> State:
    """A job without a result.json: not begun, or ended before its first line."""
    submitted = last_submission(job.sweep, job.overrides) if job.sweep else None
    if submitted is None:
        return State("pending", "")
    name = submitted.name
    if any(submitted.glob("*_result.pkl")):
        return State("failed", f"before it began (job {name}): {_last_line(submitted)}")
    return State("pending", f"submitted as job {name}")


def _unfinished(folder: Path, started: str, now: datetime) -> State:
    snapshot = read_progress(folder)
    if snapshot is None or _moment(snapshot.updated) < _moment(started):  # of an earlier attempt
        if _seconds(started, now) <= SILENCE_SECONDS:
            return State("running", f"began {_ago(started, now)} ago")
        return State("stopped", f"killed or preempted: no sign of life since its start "
                     f"{_ago(started, now)} ago")
    where = ": ".join(filter(None, (snapshot.stage, snapshot.description)))
    if snapshot.total:
        where += f", {100 * snapshot.done / snapshot.total:.0f}%"
    silence = _seconds(snapshot.updated, now)
    if silence > SILENCE_SECONDS:
        return State("stopped", f"killed or preempted in {where}: no sign of life for "
                     f"{duration(silence)}")
    spent = _seconds(snapshot.started, _moment(snapshot.updated))
    own = snapshot.done - snapshot.earlier
    left = spent * (snapshot.total - snapshot.done) / own if own else 0.0
    return State("running", f"{where}, {duration(left)} left of this step" if left else where)


def read_progress(folder: Path) -> Snapshot | None:
    """Return what a job wrote last; None where it wrote nothing that can be read."""
    with suppress(OSError, ValueError, TypeError):
        return Snapshot(**json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
    return None


def _last_line(submitted: Path) -> str:
    for path in sorted(submitted.glob("*_log.*")):  # .err if there is one, .out
        with suppress(OSError):
            lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if told := [line for line in lines if not line.startswith("srun: error:")] or lines:
                return told[-1]  # srun adds that there was an error, not which
    return "no log"


def _override(job: Job, key: str) -> str | float:
    given = dict(override.split("=", 1) for override in job.overrides if "=" in override)
    text = given.get(key, "")
    with suppress(ValueError):
        return text if text.isdigit() else float(text)
    return text


def _differing(jobs: Sequence[Job]) -> list[str]:
    """What tells jobs apart that have no config yet."""
    keys = dict.fromkeys(override.split("=")[0] for job in jobs for override in job.overrides)
    return [key for key in keys if len({_override(job, key) for job in jobs}) > 1]


def _ago(moment: str, now: datetime) -> str:
    return duration(_seconds(moment, now))


def _seconds(moment: str, now: datetime) -> float:
    return max(0.0, (now - _moment(moment)).total_seconds())


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
