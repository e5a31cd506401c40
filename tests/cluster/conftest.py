"""A SLURM to submit to: a real one, with the partitions `low` (preemptible) and `high`.

`eval "$(scripts/local_slurm.sh start)"` starts one. Without, these tests are skipped; where
KT_EXP_SLURM_TESTS is "required", they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kt_exp.results.record import RunRecord, read_record

# Generous, since a busy machine may take its time.
DEADLINE_SECONDS = 400


def absence() -> str | None:
    """Return why there is no SLURM to test with."""
    if shutil.which("sinfo") is None:
        return "SLURM is not installed (scripts/local_slurm.sh start)"
    shown = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True)
    if shown.returncode != 0:
        why = shown.stderr.strip().splitlines()[-1]
        return f"SLURM does not run (scripts/local_slurm.sh start): {why}"
    if not {"low", "high"} <= set(shown.stdout.split()):
        return "this SLURM has no partitions 'low' and 'high' (scripts/local_slurm.sh start)"
    return None


@dataclass
class Cluster:
    """Runs kt-exp in `home`, and asks SLURM about its jobs, all of one `name`."""

    home: Path
    name: str = field(default_factory=lambda: f"kt_exp_test_{os.getpid()}")
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *overrides: str, store: str = "store") -> subprocess.Popen[str]:
        """Start `kt-exp` with `overrides`."""
        if "-m" in overrides:
            overrides = (*overrides, f"hydra.launcher.name={self.name}")
        environment = os.environ | {"KT_EXP_STORE": str(self.home / store), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, "-m", "kt_exp.run", *overrides], cwd=self.home,
                                   env=environment, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        self.started.append(process)
        return process

    def preempt(self) -> None:
        """Submit a job that needs the whole node and goes before those in `low`."""
        self.ask("sbatch", "--partition=high", "--exclusive", f"--job-name={self.name}",
                 "--output=/dev/null", "--wrap=sleep 1")

    def ask(self, *command: str) -> str:
        """Return what one of SLURM's commands prints."""
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def job(self, key: str, identifier: str) -> str:
        """Return a value of `scontrol show job`."""
        words = self.ask("scontrol", "--oneliner", "show", "job", identifier).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{key}="))

    def record(self, job: str) -> RunRecord:
        """Return the record of a job's folder."""
        return read_record(self.home / job)

    def log(self, job: str) -> str:
        """Return the log of a job's folder, of all its attempts."""
        path = self.home / job / "kt_exp.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def identifier(self, sweep: str) -> str:
        """Wait until the one job of a sweep is submitted; return its number at SLURM."""
        folder = self.home / sweep / ".submitit"
        self.until(lambda: any(folder.glob("*/*_submission.sh")))
        return next(folder.glob("*/*_submission.sh")).parent.name

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` holds."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"in vain; {self.ask('squeue')}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := absence():
        if os.environ.get("KT_EXP_SLURM_TESTS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    yield running
    for process in running.started:
        process.kill()
        process.communicate()
    subprocess.run(["scancel", f"--name={running.name}"])
