"""How a call of kt-exp ends: the exit code, and a line for each reason why jobs failed.

Jobs that ran in other processes are judged by what they left on disk, whichever launcher ran them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from kt_exp.errors import EXIT_BAD_INPUT
from kt_exp.report.runs import Job, find_jobs
from kt_exp.report.sweeps import planned


@dataclass
class Ending:
    """What is known of the jobs of this call: `codes` of those that a launcher waited for."""

    codes: list[int] = field(default_factory=list)
    sweep: Path | None = None  # the folder of a multirun
    left: bool = False  # it was submitted, and not waited for
    told: set[str] = field(default_factory=set)  # the errors that the terminal showed

    def clear(self) -> None:
        """Forget an earlier call in the same process."""
        self.codes, self.sweep, self.left, self.told = [], None, False, set()

    def exit_code(self) -> int:
        """Print what failed; return 0, 1 where a job failed, or 2 where one had bad input."""
        code = max(self.codes, default=0)
        if self.sweep is None or self.left:
            return code
        jobs = list(_jobs(self.sweep))
        failed = [job for job in jobs if job.state != "completed"]
        alike: dict[str, list[Job]] = {}
        for job in failed:
            alike.setdefault(_reason(job), []).append(job)
        for reason, some in alike.items():
            print(f"kt-exp: error: {_named(some)}: {reason}", file=sys.stderr)
        if failed:
            print(f"kt-exp: error: {len(failed)} of {len(jobs)} jobs failed", file=sys.stderr)
        return max([code, *map(_code, failed)])


ending = Ending()


class Multirun(Callback):
    """Tells the ending that this call is a multirun (config key `hydra.callbacks`)."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        ending.sweep = Path(config.hydra.sweep.dir)
        ending.left = OmegaConf.select(config, "hydra.launcher.wait") is False


class NewErrors(logging.Filter):
    """Lets an error through once a call: the end names all jobs that failed of it.

    A filter of the terminal in `hydra/job_logging`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to show `record`."""
        if record.levelno < logging.ERROR:
            return True
        text = record.getMessage()
        new = text not in ending.told
        ending.told.add(text)
        return new


def _jobs(sweep: Path) -> Iterator[Job]:
    """The jobs of this multirun, not those that an earlier one left in the same folder."""
    wanted = {tuple(overrides) for _, overrides in planned(sweep)}
    for job in find_jobs([sweep]):
        if not wanted or tuple(job.overrides) in wanted:
            yield job


def _named(jobs: Sequence[Job]) -> str:
    folders = ", ".join(str(job.folder) for job in jobs)
    return folders if len(jobs) == 1 else f"{len(jobs)} jobs ({folders})"


def _reason(job: Job) -> str:
    if job.record is None:
        return "left no result.json"
    error = job.record.error
    if job.record.status == "failed" and error:
        return " ".join((error["message"] or error["type"]).split())
    return "interrupted; the same command goes on where it stopped"


def _code(job: Job) -> int:
    error = job.record.error if job.record else None
    return EXIT_BAD_INPUT if error and error["type"] == "UserError" else 1
