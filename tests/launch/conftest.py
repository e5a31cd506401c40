"""kt-exp as a process of its own, and a SLURM of shell scripts that accepts nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kt_exp.results.record import RunRecord, read_record

DEADLINE_SECONDS = 400  # a busy machine may take its time


@dataclass
class Home:
    """A folder to run kt-exp in; the store is there too."""

    path: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str, path: str | None = None) -> subprocess.Popen[str]:
        """Start kt-exp; `path` replaces PATH."""
        environment = os.environ | {"KT_EXP_STORE": "store", "OMP_NUM_THREADS": "1"}
        if path is not None:
            environment["PATH"] = path
        process = subprocess.Popen([sys.executable, "-m", "kt_exp.run", *arguments], text=True,
                                   cwd=self.path, env=environment, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        self.started.append(process)
        return process

    def call(self, *arguments: str, path: str | None = None) -> tuple[int, str]:
        """Run kt-exp; return its exit code and what it wrote to stderr."""
        process = self.start(*arguments, path=path)
        _, stderr = process.communicate()
        return process.returncode, stderr

    def status(self, folder: str) -> str:
        """Return what `kt-report status` prints."""
        shown = subprocess.run([sys.executable, "-m", "kt_exp.report.cli", "status", folder],
                               cwd=self.path, capture_output=True, text=True, check=True)
        return shown.stdout

    def record(self, job: str) -> RunRecord:
        return read_record(self.path / job)

    def until(self, condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
        """Wait until `condition` holds, as long as `process` runs."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    # Where pytest runs in a shell's background, SIGINT is ignored, and processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    home = Home(tmp_path)
    yield home
    for process in home.started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate()


@pytest.fixture
def no_slurm(tmp_path: Path) -> str:
    """A PATH without SLURM."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return str(folder)


@pytest.fixture
def scripted_slurm(tmp_path: Path) -> str:
    """A PATH with commands named as SLURM's: sinfo lists two partitions, sbatch refuses."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {"sinfo": "printf 'low\\nhigh\\n'", "srun": "", "squeue": "", "scontrol": "",
               "sbatch": "echo > sbatch_was_called; echo 'error: invalid account' >&2; exit 1"}
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return str(folder)
