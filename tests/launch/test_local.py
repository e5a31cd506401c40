"""Multiruns in this process and in several: how they end, and how they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from kt_exp.launch import local

pytestmark = pytest.mark.slow

TINY = [
    "inversion=fast", "finetune=pictograms",
    "concepts.only=[gyroscope]", "inversion.steps=2", "inversion.sizes=[]",
    "inversion.upsize_at=[]", "inversion.images=2", "finetune.epochs=1", "finetune.batch_size=2",
    "finetune.rehearsal=0", "finetune.save_models=false", "benchmark.images_per_known_class=1",
    "benchmark.images_per_target=2",
]
SWEEP = ["-m", *TINY, "hydra.sweep.dir=sweep"]
# To be stopped in mid-inversion.
LONG = [*SWEEP, "inversion.steps=100000", "inversion.checkpoint_seconds=0.001"]


def test_all_jobs_run_and_each_failed_one_is_named_with_its_reason(home):
    # Only the plan of training shows that batches of one image are too small for this loss.
    code, stderr = home.call(*SWEEP, "hydra/launcher=local_processes", "finetune.loss=ntxent",
                             "finetune.batch_size=1,2,3")
    assert code == 2
    lines = stderr.splitlines()
    assert lines[-2:] == [
        "kt-exp: error: sweep/0: finetune.batch_size: leaves a batch of one image, from which "
        "'ntxent' learns nothing; choose another batch size, or finetune.loss=class_ce",
        "kt-exp: error: 1 of 3 jobs failed"]
    assert any("#0 failed with exit code 2 (" in line for line in lines)
    assert [home.record(f"sweep/{job}").status for job in range(3)] == [
        "failed", "completed", "completed"]
    assert sorted(home.record(f"sweep/{job}").reused["inversion"] for job in (1, 2)) == [0, 1]
    assert list((home.path / "store" / "locks").iterdir()) == []
    assert "2 completed, 1 failed" in home.status("sweep")
    assert "leaves a batch of one image" in home.status("sweep")


@pytest.mark.parametrize(("launcher", "number"), [
    ("in_process", signal.SIGTERM), ("local_processes", signal.SIGINT),
    ("local_processes", signal.SIGTERM)])
def test_a_multirun_that_is_stopped_saves_and_leaves_nothing_running(launcher, number, home):
    process = home.start(*LONG, f"hydra/launcher={launcher}", "seed=0,1")
    home.until(lambda: any(home.path.glob("store/inversion_partial/*.safetensors")), process)
    jobs = children(process.pid)
    process.send_signal(number)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert home.record("sweep/0").status == "interrupted"
    assert list((home.path / "store" / "locks").iterdir()) == []
    assert not any(Path(f"/proc/{job}").exists() for job in jobs)
    assert "interrupted" in home.status("sweep")


@pytest.fixture
def signals_as_before():
    numbers = (signal.SIGTERM, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_before")
def test_a_stop_that_comes_while_a_job_starts_stops_that_job_too(tmp_path, monkeypatch):
    popen, started = subprocess.Popen, []

    def start(command, **options):
        if "kt_exp.launch" not in command:
            return popen(command, **options)
        started.append(popen(["sleep", "60"]))
        os.kill(os.getpid(), signal.SIGINT)
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    sweep = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    jobs = [SimpleNamespace(number=number, title="", config=sweep) for number in range(2)]
    with pytest.raises(KeyboardInterrupt):
        local.run_in_processes(jobs, array_parallelism=2, cpus_per_task=1, gpus=[])
    assert [job.returncode for job in started] == [-signal.SIGTERM]


def test_a_killed_job_is_named_and_its_lock_holds_nobody_up(home):
    command = [*LONG, "inversion.steps=300"]
    process = home.start(*command, "hydra/launcher=local_processes")
    locks = home.path / "store" / "locks"
    home.until(lambda: any(home.path.glob("store/inversion_partial/*.safetensors")), process)
    [job] = children(process.pid)
    os.kill(job, signal.SIGKILL)
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert "kt-exp: error: sweep/0: interrupted; the same command goes on where it" in stderr
    assert stderr.endswith("kt-exp: error: 1 of 1 jobs failed\n")
    assert len(list(locks.iterdir())) == 1
    code, stderr = home.call(*command)
    assert (code, list(locks.iterdir())) == (0, []), stderr


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]
