"""A job on SLURM that is told to stop: it saves, and goes back into the queue if it shall go on.

SLURM tells so before it preempts a job and before the job's time limit. submitit's own way is not
taken, since it has to guess which of the two it was: with a limit of ten minutes or less it calls
every preemption a time-out, and refuses to requeue. SLURM knows; it is asked.
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
    """What submitit runs: the job, with an exit code that SLURM sees.

    `limit`: the restarts after which a job that reaches its time limit ends.
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
                signal.signal(number, signal.SIG_IGN)  # What was to be saved is; SLURM says more.
            if self.requeue and _shall_requeue(self.limit):
                log.info("Back into the queue: the job goes on where it stopped.")
                subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)
            code = EXIT_INTERRUPTED
        if code:
            sys.exit(code)

    def checkpoint(self) -> DelayedSubmission:
        """Let submitit requeue the job as it is, for a signal that comes before it began."""
        return DelayedSubmission(self)


def _shall_requeue(limit: int) -> bool:
    """Tell whether the job shall requeue itself: it goes on, and SLURM does not do so by itself."""
    job = _shown("job", os.environ["SLURM_JOB_ID"])
    if job["JobState"] != "RUNNING":  # cancelled, say, or preempted without grace
        return False
    if job.get("PreemptTime", "None") != "None":
        # SLURM requeues a job that ends within the grace, where it may. Were it asked to as well,
        # it would do so twice: versions before 26.05 then run a completed job once more.
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
