from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kt_exp.report import status
from kt_exp.report.progress import progress
from kt_exp.report.record import RunRecord
from kt_exp.report.runs import find_jobs
from kt_exp.report.status import ProgressFile, Snapshot, read_progress, state_of, status_grid

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def begun(sweeps, name: str = "job", minutes: float = 30) -> Path:
    """A job that began so many minutes before NOW and did not end."""
    started = (NOW - timedelta(minutes=minutes)).isoformat()
    return sweeps.save(name, RunRecord(command=["kt-exp"], config=sweeps.config(), started=started))


def left_progress(folder: Path, done: int, seconds_ago: float, took: float = 100) -> None:
    updated = NOW - timedelta(seconds=seconds_ago)
    snapshot = Snapshot("inversion", "Inverting 10 images", done, 100, updated.isoformat(),
                        (updated - timedelta(seconds=took)).isoformat())
    (folder / "progress.json").write_text(json.dumps(vars(snapshot)))


def state(folder: Path) -> tuple[str, str]:
    [job] = find_jobs([folder])
    found = state_of(job, NOW)
    return found.name, found.detail


def test_a_running_job_tells_its_stage_and_what_is_left(sweeps) -> None:
    folder = begun(sweeps)
    left_progress(folder, done=25, seconds_ago=1)
    assert state(folder) == ("running", "inversion: Inverting 10 images, 25%, 5 min 00 s left of "
                                        "this step")


def test_a_silent_job_was_killed(sweeps) -> None:
    folder = begun(sweeps)
    left_progress(folder, done=25, seconds_ago=600)
    assert state(folder) == ("stopped", "killed or preempted in inversion: Inverting 10 images, "
                                        "25%: no sign of life for 10 min 00 s")


def test_a_job_of_slow_steps_may_be_silent_for_longer(sweeps) -> None:
    folder = begun(sweeps, minutes=90)
    left_progress(folder, done=2, seconds_ago=600, took=1200)
    assert state(folder)[0] == "running"


def test_a_job_without_progress_is_running_for_a_while_only(sweeps) -> None:
    assert state(begun(sweeps, "young", minutes=1)) == ("running", "began 1 min 00 s ago")
    name, detail = state(begun(sweeps, "old", minutes=30))
    assert (name, "killed or preempted" in detail) == ("stopped", True)


def test_progress_of_an_earlier_attempt_counts_for_nothing(sweeps) -> None:
    folder = begun(sweeps, minutes=1)
    left_progress(folder, done=25, seconds_ago=3600)
    assert state(folder) == ("running", "began 1 min 00 s ago")


def test_ended_jobs(sweeps) -> None:
    assert state(sweeps.run("a", {"moongate": (0, 1, 2, 3)}))[0] == "completed"
    assert state(sweeps.failed("b", "out of\nmemory")) == ("failed", "out of memory")
    record = RunRecord(command=["kt-exp"], config=sweeps.config())
    record.close("interrupted")
    record.finished = (NOW - timedelta(minutes=2)).isoformat()
    assert state(sweeps.save("c", record)) == (
        "stopped", "interrupted 2 min 00 s ago; started again, it goes on where it was")


def test_jobs_in_the_queue_are_pending_with_their_id(sweeps) -> None:
    folder = sweeps.multirun("sweep", "finetune.lr=1e-5,2e-5,3e-5")
    for number in range(3):
        submitted = folder / ".submitit" / f"815_{number}"
        submitted.mkdir(parents=True)
        (submitted / f"815_{number}_submitted.pkl").touch()
    (submitted / "815_2_0_result.pkl").touch()
    (submitted / "815_2_0_log.out").write_text("Traceback …\nModuleNotFoundError: no torch\n\n")
    sweeps.run("sweep/0", {"moongate": (0, 1, 2, 3)}, "finetune.lr=1e-05", finetune__lr=1e-5)

    grid = status_grid(find_jobs([folder]), NOW)

    assert grid.title == "1 completed, 1 failed, 1 pending"
    assert [[cell.text for cell in row][1:3] for row in grid.rows] == [
        ["completed", "in 0.0 s"], ["pending", "submitted as job 815_1"],
        ["failed", "before it began (job 815_2): ModuleNotFoundError: no torch"]]
    assert grid.rows[1][0].text == "2e-5"


def test_a_sweep_that_did_not_begin_is_told_apart_by_its_overrides(sweeps) -> None:
    folder = sweeps.multirun("sweep", "finetune.lr=1e-5,2e-5", "seed=1")
    grid = status_grid(find_jobs([folder]), NOW)
    assert grid.header[0] == "finetune.lr"
    assert [row[0].text for row in grid.rows] == ["1e-05", "2e-05"]


def test_a_job_writes_its_progress_and_shows_it(tmp_path: Path) -> None:
    shown = []

    @contextmanager
    def inner(description: str, total: int):
        class Bar:
            def advance(self, n: int = 1, **fields) -> None:
                shown.append((description, n, fields))
        yield Bar()

    follow = ProgressFile(tmp_path, inner)
    follow.begin("finetune")
    with follow("Fine-tuning moongate", 4) as bar:
        assert read_progress(tmp_path).done == 0
        for _ in range(4):
            bar.advance(loss=0.5)
    found = read_progress(tmp_path)
    assert (found.stage, found.description, found.done, found.total) == (
        "finetune", "Fine-tuning moongate", 4, 4)
    assert shown == [("Fine-tuning moongate", 1, {"loss": 0.5})] * 4


def test_writes_at_most_once_a_second(tmp_path: Path, monkeypatch) -> None:
    written = []
    clock = iter(step * 0.01 for step in range(10_000))
    monkeypatch.setattr(status, "monotonic", lambda: next(clock))
    monkeypatch.setattr(status, "write_atomically", lambda path, text: written.append(text))
    with ProgressFile(tmp_path, progress)("Inverting", 1000) as bar:
        for _ in range(1000):
            bar.advance()
    assert len(written) == pytest.approx(1000 * 0.01, abs=3)


def test_a_folder_that_cannot_be_written_stops_no_job(tmp_path: Path) -> None:
    with ProgressFile(tmp_path / "gone", progress)("Inverting", 1) as bar:
        bar.advance()
    assert read_progress(tmp_path / "gone") is None
