"""Progress of jobs, from their files alone: progress.json and result.json."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kt_exp.progress import duration
from kt_exp.report.grid import Grid, StyledText
from kt_exp.report.grouping import grouped, labels, shown, varied
from kt_exp.report.runs import Job
from kt_exp.results.progress_record import read_progress
from kt_exp.results.submission import last_submission

SILENCE_SECONDS = 120.0  # without progress, after which a job counts as dead
TONES = {"completed": "good", "running": "", "failed": "bad", "stopped": "warn", "pending": "soft"}


@dataclass(frozen=True)
class State:
    """The state of a job (completed, running, failed, stopped or pending) and details."""

    name: str
    detail: str


def state_of(job: Job, now: datetime | None = None) -> State:
    """Return the state of a job at the time `now` (UTC)."""
    now = now or datetime.now(UTC)
    record = job.record
    if record is None:
        return _unbegun(job)
    if record.status == "completed":
        return State("completed", f"in {duration(record.elapsed() or 0)}")
    if record.status == "failed":
        error = record.error
        message = (error.message or error.type) if error else ""
        return State("failed", " ".join(message.split()))
    if record.finished is not None:
        return State("stopped", f"interrupted {_ago(record.finished, now)} ago; started "
                     "again, it goes on where it was")
    return _unfinished(job.folder, record.started, now)


def status_grid(jobs: Sequence[Job], now: datetime | None = None) -> Grid:
    """Return the table of `kt-report status`: one line per job, sorted by what differs."""
    keys = varied(jobs) or _differing(jobs)
    seed = [] if "seed" in keys else ["seed"]
    grid = Grid("", [*keys, "state", "", *seed, "folder"], [], labels=len(keys) + len(seed) + 3)
    counts: dict[str, int] = dict.fromkeys(TONES, 0)
    placed = [(values if job.config else tuple(_override(job, key) for key in keys), job)
              for values, group in grouped(jobs, keys).items() for job in group]
    names = labels(values for values, _ in placed)
    for values, job in placed:
        state = state_of(job, now)
        counts[state.name] += 1
        grid.rows.append([*map(StyledText, names[values]),
                          StyledText(state.name, TONES[state.name]), StyledText(state.detail),
                          *(StyledText(_seed(job)) for _ in seed),
                          StyledText(str(job.folder), "soft")])
    grid.title = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return grid


def _seed(job: Job) -> str:
    value = job.value("seed") if job.config else _override(job, "seed")
    return shown(value) if value is not None else ""


def _unbegun(job: Job) -> State:
    """Return the state of a job without a result.json: not begun, or failed at its start."""
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


def _last_line(submitted: Path) -> str:
    for path in sorted(submitted.glob("*_log.*")):  # .err if there is one, .out
        with suppress(OSError):
            lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            # srun adds lines that say that there was an error, but not which.
            if own := [line for line in lines if not line.startswith("srun: error:")] or lines:
                return own[-1]
    return "no log"


def _override(job: Job, key: str) -> str | float:
    given = dict(override.split("=", 1) for override in job.overrides if "=" in override)
    text = given.get(key, "")
    with suppress(ValueError):
        return text if text.isdigit() else float(text)
    return text


def _differing(jobs: Sequence[Job]) -> list[str]:
    """Return the overrides that distinguish jobs without a config."""
    keys = dict.fromkeys(override.split("=")[0] for job in jobs for override in job.overrides)
    return [key for key in keys if len({_override(job, key) for job in jobs}) > 1]


def _ago(moment: str, now: datetime) -> str:
    return duration(_seconds(moment, now))


def _seconds(moment: str, now: datetime) -> float:
    return max(0.0, (now - _moment(moment)).total_seconds())


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
