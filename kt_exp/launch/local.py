"""Launcher that runs jobs in parallel processes of this machine."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra.core.utils import JobReturn

from kt_exp import interrupts
from kt_exp.errors import EXIT_INTERRUPTED
from kt_exp.launch.job import Job, check_least
from kt_exp.launch.snapshot import environment, take_snapshot
from kt_exp.runs.session import Session, current

log = logging.getLogger(__name__)

FOLDER = ".submitit/processes"  # in the sweep's folder: code, pickled jobs and their output
_POLL_SECONDS = 0.2


def run_in_processes(jobs: Sequence[Job], *, array_parallelism: int, cpus_per_task: int | None,
                     gpus: Sequence[int]) -> list[JobReturn]:
    """Run the jobs, `array_parallelism` at a time; return their results in order.

    Raises:
        UserError: a key of the launcher is out of range.
        KeyboardInterrupt: the process was told to stop; all jobs have been stopped.
    """
    check_least({"array_parallelism": array_parallelism, "cpus_per_task": cpus_per_task},
                array_parallelism=1, cpus_per_task=1)
    home = Path(jobs[0].config.hydra.sweep.dir) / FOLDER
    cpus = cpus_per_task or max(1, (os.cpu_count() or 1) // array_parallelism)
    shared = os.environ | environment(take_snapshot(home)) | {"OMP_NUM_THREADS": str(cpus)}
    waiting, codes = list(jobs), dict[int, int]()
    free = list(range(array_parallelism))
    log.info("Launching %d jobs in processes, %d at the same time", len(jobs), array_parallelism)
    with _stopping_all() as running:
        while waiting or running:
            while waiting and free:
                slot = free.pop(0)
                device = {"CUDA_VISIBLE_DEVICES": str(gpus[slot % len(gpus)])} if gpus else {}
                with interrupts.deferred():  # So that a stop finds every process in the list.
                    running.append(_start(waiting.pop(0), slot, home, shared | device))
            time.sleep(_POLL_SECONDS)
            for process in [p for p in running if p.child.poll() is not None]:
                running.remove(process)
                free.append(process.slot)
                codes[process.job.number] = process.ended()
    current().codes += codes.values()
    return [job.returned(codes[job.number]) for job in jobs]


@dataclass(frozen=True)
class _Process:
    job: Job
    slot: int
    child: subprocess.Popen[bytes]
    output: Path

    def ended(self) -> int:
        """Log how the process ended; return its exit code, 1 for a signal."""
        code = self.child.returncode
        how = "done" if code == 0 else f"failed with exit code {code} ({self.output})"
        log.info("\t#%d %s", self.job.number, how)
        return code if code >= 0 else 1


def _start(job: Job, slot: int, home: Path, variables: dict[str, str]) -> _Process:
    log.info("\t%s", job.title)
    pickled, output = home / f"{job.number}.pkl", home / f"{job.number}.log"
    pickled.write_bytes(pickle.dumps(job))
    with output.open("ab") as file:
        # In a new session Ctrl-C reaches this process only, which then stops each job once.
        child = subprocess.Popen(
            [sys.executable, "-m", "kt_exp.launch", str(pickled)], env=variables, stdout=file,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
    return _Process(job, slot, child, output)


@contextmanager
def _stopping_all() -> Iterator[list[_Process]]:
    """Yield a list; processes in it when the block ends are terminated and waited for."""
    running: list[_Process] = []
    interrupts.sigterm_interrupts()
    try:
        yield running
    finally:
        try:
            for process in running:
                process.child.terminate()
            for process in running:
                process.child.wait()
        finally:  # A second Ctrl-C kills them.
            for process in running:
                process.child.kill()


def main(pickled: str) -> int:
    """Run a pickled job; return its exit code."""
    job = pickle.loads(Path(pickled).read_bytes())
    try:
        with Session().active():
            return int(job())
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
