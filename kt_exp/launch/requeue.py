"""Requeueing of SLURM jobs that are told to stop: save, then go back into the queue.

SLURM signals a job before it preempts it and before the time limit. submitit has to guess which of
the two it was: with a limit of ten minutes or less it takes every preemption for a time-out and
refuses to requeue. Here SLURM is asked instead.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass

from submitit.helpers import DelayedSubmission

from kt_exp import interrupts
from kt_exp.errors import EXIT_INTERRUPTED
from kt_exp.launch.job import Job

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Requeued:
    """The job as submitit runs it, with an exit code that SLURM sees.

    `limit` is the number of restarts after which the time limit ends the job for good.
    """

    job: Job
    requeue: bool
    limit: int

    def __call__(self) -> None:
        interrupts.sigterm_interrupts()
        try:
            code = self.job()
        except KeyboardInterrupt:
            for number in interrupts.SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # All is saved; SLURM may signal again.
            if self.requeue and _has_to_requeue(self.limit):
                log.info("Back into the queue: the job goes on where it stopped.")
                subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)
            code = EXIT_INTERRUPTED
        if code:
            sys.exit(code)

    def checkpoint(self) -> DelayedSubmission:
        """Let submitit requeue the unchanged job if a signal comes before the job began."""
        return DelayedSubmission(self)


def _has_to_requeue(limit: int) -> bool:
    """Return whether the job has to requeue itself: it is unfinished, and SLURM will not do it."""
    job = _shown("job", os.environ["SLURM_JOB_ID"])
    if job["JobState"] != "RUNNING":  # cancelled, say, or preempted without grace
        return False
    if job.get("PreemptTime", "None") != "None":
        # With PreemptMode=REQUEUE SLURM itself requeues a job that ends within the grace time. A
        # second request makes versions before 26.05 run a completed job once more.
        return _shown("partition", job["Partition"]).get("PreemptMode") != "REQUEUE"
    if int(job["Restarts"]) < limit:
        return True
    log.error("At its time limit after %s restarts (hydra.launcher.max_num_timeout).",
              job["Restarts"])
    return False


def _shown(kind: str, name: str) -> dict[str, str]:
    shown = subprocess.run(["scontrol", "--oneliner", "show", kind, name],
                           capture_output=True, text=True, check=True)
    return dict(re.findall(r"(\S+?)=(\S*)", shown.stdout))
