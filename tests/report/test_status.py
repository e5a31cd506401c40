from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kt_exp.progress import progress
from kt_exp.report.runs import find_jobs
from kt_exp.report.status import state_of, status_grid
from kt_exp.results.progress_record import Snapshot, read_progress
from kt_exp.results.record import RunRecord
from kt_exp.results.submission import remember
from kt_exp.runs import progress_file
from kt_exp.runs.progress_file import ProgressFile

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def begun(sweeps, name: str = "job", minutes: float = 30) -> Path:
    """A job that began so many minutes before NOW and did not end."""
    started = (NOW - timedelta(minutes=minutes)).isoformat()
    return sweeps.save(name, RunRecord(command=["kt-exp"], config=sweeps.config(), started=started))


def left_progress(folder: Path, done: int, seconds_ago: float, took: float = 100,
                  earlier: int = 0) -> None:
    updated = NOW - timedelta(seconds=seconds_ago)
    snapshot = Snapshot("inversion", "Inverting 10 images", done, 100, updated.isoformat(),
                        (updated - timedelta(seconds=took)).isoformat(), earlier)
    (folder / "progress.json").write_text(json.dumps(vars(snapshot)))


def state(folder: Path) -> tuple[str, str]:
    [job] = find_jobs([folder])
    found = state_of(job, NOW)
    return found.name, found.detail


def test_the_seed_is_shown_also_where_it_does_not_differ(sweeps) -> None:
    for rate in (0.1, 0.2):
        sweeps.run(f"sweep/{rate}", {"moongate": (0, 1, 2, 3)}, f"finetune.lr={rate}",
                   finetune__lr=rate, seed=7)
    grid = status_grid(find_jobs([sweeps.root / "sweep"]), NOW)
    assert grid.header == ["finetune.lr", "state", "", "seed", "folder"]
    assert [row[3].text for row in grid.rows] == ["7", "7"]


def test_a_running_job_tells_its_stage_and_what_is_left(sweeps) -> None:
    folder = begun(sweeps)
    left_progress(folder, done=25, seconds_ago=1)
    assert state(folder) == ("running", "inversion: Inverting 10 images, 25%, 5 min 00 s left of "
                                        "this step")


def test_steps_of_an_earlier_attempt_tell_nothing_of_the_time_that_is_left(sweeps) -> None:
    folder = begun(sweeps)
    left_progress(folder, done=75, seconds_ago=1, earlier=50)
    assert state(folder)[1] == "inversion: Inverting 10 images, 75%, 1 min 40 s left of this step"
    left_progress(folder, done=50, seconds_ago=1, earlier=50)
    assert state(folder)[1] == "inversion: Inverting 10 images, 50%"


def test_a_silent_job_was_killed(sweeps) -> None:
    folder = begun(sweeps)
    left_progress(folder, done=25, seconds_ago=600)
    assert state(folder) == ("stopped", "killed or preempted in inversion: Inverting 10 images, "
                                        "25%: no sign of life for 10 min 00 s")


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


def submit(folder: Path, array: int, *overrides: str) -> None:
    """What a submission to SLURM leaves in a sweep's folder."""
    ids = [f"{array}_{number}" for number in range(len(overrides))]
    for job in ids:
        (folder / ".submitit" / job).mkdir(parents=True)
    remember(folder / ".submitit", {job: [override] for job, override in
                                    zip(ids, overrides, strict=True)})


def died(folder: Path, job: str, last_line: str) -> None:
    """What submitit leaves of a job that ended without a record."""
    (folder / ".submitit" / job / f"{job}_0_result.pkl").touch()
    (folder / ".submitit" / job / f"{job}_0_log.out").write_text(
        f"Traceback …\n{last_line}\nsrun: error: node: task 0: Exited with exit code 1\n\n")


def shown(folder: Path) -> list[list[str]]:
    grid = status_grid(find_jobs([folder]), NOW)
    return [[cell.text for cell in row][:3] for row in grid.rows]


@pytest.mark.parametrize("subdir", ["${hydra.job.num}", "${hydra.job.override_dirname}"])
def test_jobs_in_the_queue_are_pending_with_their_id(sweeps, subdir) -> None:
    rates = [f"finetune.lr={lr}" for lr in ("1e-05", "2e-05", "3e-05")]
    folder = sweeps.multirun("sweep", "finetune.lr=1e-05,2e-05,3e-05", subdir=subdir)
    submit(folder, 815, *rates)
    died(folder, "815_2", "ModuleNotFoundError: no torch")
    name = "0" if "num" in subdir else rates[0]
    sweeps.run(f"sweep/{name}", {"moongate": (0, 1, 2, 3)}, rates[0], finetune__lr=1e-5)

    assert status_grid(find_jobs([folder]), NOW).title == "1 completed, 1 failed, 1 pending"
    assert shown(folder) == [
        ["1e-5", "completed", "in 0.0 s"], ["2e-5", "pending", "submitted as job 815_1"],
        ["3e-5", "failed", "before it began (job 815_2): ModuleNotFoundError: no torch"]]


def test_of_a_job_that_was_submitted_again_the_last_submission_counts(sweeps) -> None:
    folder = sweeps.multirun("sweep", "finetune.lr=1e-05,2e-05")
    submit(folder, 9, "finetune.lr=1e-05", "finetune.lr=2e-05")
    died(folder, "9_0", "No space left on device")
    submit(folder, 10, "finetune.lr=2e-05", "finetune.lr=1e-05")
    assert shown(folder) == [["1e-5", "pending", "submitted as job 10_1"],
                             ["2e-5", "pending", "submitted as job 10_0"]]


def test_a_sweep_that_did_not_begin_is_told_apart_by_its_overrides(sweeps) -> None:
    folder = sweeps.multirun("sweep", "finetune.lr=1e-5,2e-5", "seed=1")
    grid = status_grid(find_jobs([folder]), NOW)
    assert grid.header[0] == "finetune.lr"
    assert [row[0].text for row in grid.rows] == ["1e-5", "2e-5"]


@pytest.mark.parametrize("begun", [True, False])
def test_rates_are_written_alike(sweeps, begun) -> None:
    rates = ("0.0003", "0.003", "0.1")
    folder = sweeps.multirun("sweep", f"finetune.lr={','.join(rates)}")
    for number, lr in enumerate(rates if begun else ()):
        sweeps.run(f"sweep/{number}", {"moongate": (0, 1, 2, 3)}, f"finetune.lr={lr}",
                   finetune__lr=float(lr))
    told = subprocess.run([sys.executable, "-m", "kt_exp.report.cli", "status", folder],
                          capture_output=True, text=True, check=True)
    assert re.findall(r"^(\d\S+) +(?:completed|pending) ", told.stdout, re.M) == [
        "3e-4", "3e-3", "1e-1"]


def test_a_job_writes_its_progress_and_shows_it(tmp_path: Path) -> None:
    shown = []

    @contextmanager
    def inner(description: str, total: int):
        class Bar:
            def advance(self, n: int = 1, *, earlier: bool = False, **fields) -> None:
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


def test_a_job_that_waits_is_seen_to_live_until_it_ends(sweeps, monkeypatch) -> None:
    monkeypatch.setattr(progress_file, "BEAT_SECONDS", 0.02)
    folder = begun(sweeps)
    with ProgressFile(folder, progress) as follow:
        follow.begin("inversion")
        assert state(folder) == ("running", "inversion")
        begin = read_progress(folder).updated
        deadline = time.monotonic() + 10
        while read_progress(folder).updated == begin:
            assert time.monotonic() < deadline
    end = read_progress(folder).updated
    time.sleep(0.1)
    assert read_progress(folder).updated == end


def test_writes_at_most_once_a_second(tmp_path: Path, monkeypatch) -> None:
    written = []
    clock = iter(step * 0.01 for step in range(10_000))
    monkeypatch.setattr(progress_file, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress_file, "write_atomically", lambda path, text: written.append(text))
    with ProgressFile(tmp_path, progress)("Inverting", 1000) as bar:
        for _ in range(1000):
            bar.advance()
    assert len(written) == pytest.approx(1000 * 0.01, abs=3)


def test_a_folder_that_cannot_be_written_stops_no_job(tmp_path: Path) -> None:
    with ProgressFile(tmp_path / "gone", progress)("Inverting", 1) as bar:
        bar.advance()
    assert read_progress(tmp_path / "gone") is None
