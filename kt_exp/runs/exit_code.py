"""The exit code of a call, and one line per reason why jobs failed.

Jobs that ran in other processes are judged by their records on disk, whatever the launcher.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from kt_exp.errors import EXIT_BAD_INPUT
from kt_exp.report.runs import Job, find_jobs
from kt_exp.report.sweeps import planned
from kt_exp.runs.dry_run import temporary_folder
from kt_exp.runs.session import Session, current


def exit_code(session: Session) -> int:
    """Print what failed; return 0, 1 if a job failed, or 2 if one had bad input."""
    code = max(session.codes, default=0)
    if session.sweep is None or session.left:
        return code
    jobs = list(_jobs(session.sweep))
    failed = [job for job in jobs if job.state != "completed"]
    alike: dict[str, list[Job]] = {}
    for job in failed:
        alike.setdefault(_reason(job), []).append(job)
    for reason, same in alike.items():
        print(f"kt-exp: error: {_named(same)}: {reason}", file=sys.stderr)
    if failed:
        print(f"kt-exp: error: {len(failed)} of {len(jobs)} jobs failed", file=sys.stderr)
    return max([code, *map(_code, failed)])


class Multirun(Callback):
    """Callback that tells the session what this call is (`hydra.callbacks`).

    A dry run leaves no files: Hydra is given another folder, and the session the jobs' own.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.dry_run:
            session = current()
            session.target = Path(config.hydra.run.dir)
            with read_write(config):
                config.hydra.run.dir = temporary_folder(session)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        session = current()
        if config.dry_run:
            with read_write(config):
                config.hydra.sweep.dir = temporary_folder(session)
            return
        session.sweep = Path(config.hydra.sweep.dir)
        session.left = OmegaConf.select(config, "hydra.launcher.wait") is False


class NewErrors(logging.Filter):
    """Log filter that shows each error once per call; the end names all jobs that it failed.

    Used by the terminal handler in `hydra/job_logging`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to show `record`."""
        if record.levelno < logging.ERROR:
            return True
        text = record.getMessage()
        shown = current().shown
        new = text not in shown
        shown.add(text)
        return new


def _jobs(sweep: Path) -> Iterator[Job]:
    """Yield the jobs of this multirun, without those of earlier ones in the same folder."""
    expected = {tuple(overrides) for _, overrides in planned(sweep)}
    for job in find_jobs([sweep]):
        if not expected or tuple(job.overrides) in expected:
            yield job


def _named(jobs: Sequence[Job]) -> str:
    folders = ", ".join(str(job.folder) for job in jobs)
    return folders if len(jobs) == 1 else f"{len(jobs)} jobs ({folders})"


def _reason(job: Job) -> str:
    if job.record is None:
        return "left no result.json"
    error = job.record.error
    if job.record.status == "failed" and error:
        return " ".join((error.message or error.type).split())
    return "interrupted; the same command goes on where it stopped"


def _code(job: Job) -> int:
    error = job.record.error if job.record else None
    return EXIT_BAD_INPUT if error and error.type == "UserError" else 1
