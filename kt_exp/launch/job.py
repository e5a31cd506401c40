"""One job of a multirun: composed at submission, run later in another process.

Submission fixes everything that the job depends on: the config is composed and the code is copied
(snapshot.py). Jobs are pickled. The pickle refers to functions of kt_exp by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import (
    JobReturn,
    JobRuntime,
    JobStatus,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from kt_exp.config.compose_errors import COMPOSE_ERRORS, explain
from kt_exp.errors import UserError
from kt_exp.runs.check import Checked, Problems, as_current, find_problems
from kt_exp.runs.dry_run import dry_run
from kt_exp.runs.job_objective import job_objective
from kt_exp.runs.session import current
from kt_exp.runs.skip_completed import run_unless_done

SWEEP, SUBDIR = "hydra.sweep.dir", "hydra.sweep.subdir"
_LONGEST_NAME = 255  # bytes of a file or folder name, on all supported systems


@dataclass(frozen=True)
class Job:
    """One experiment; calling it runs it and returns the exit code."""

    number: int
    overrides: list[str]
    config: DictConfig
    context: HydraContext

    def __call__(self) -> int:
        setup_globals()
        JobRuntime.instance().set("name", self.config.hydra.job.name)
        task = partial(run_unless_done, session=current())
        ended = run_job(hydra_context=self.context, task_function=task,
                        config=self.config, job_dir_key=SWEEP, job_subdir_key=SUBDIR)
        return int(ended.return_value)

    @property
    def title(self) -> str:
        """The job's number and its overrides, as Hydra's own launchers show them."""
        return f"#{self.number} : {' '.join(filter_overrides(self.overrides))}"

    def returned(self, code: int) -> JobReturn:
        """Return the job's result for Hydra, its objective.

        The status is always completed, as a failure would end the sweep.
        """
        value = job_objective(self.config, output_folder(self.config), code)
        return JobReturn(overrides=self.overrides, status=JobStatus.COMPLETED, _return_value=value)


def prepare(context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]],
            first: int) -> list[Job]:
    """Return the jobs of a batch, numbered from `first`; none in a dry run, which shows their cost.

    All are checked before any runs. Of a later batch of a sweeper that searches, whose choice may
    be a job that fails, only the composition is checked.

    Raises:
        UserError: jobs cannot run; lines before it say why, unless all have the same problem.
    """
    setup_globals()
    problems = Problems()
    jobs = _compose(context, config, job_overrides, first, problems)
    checked = [_to_check(job) for job in jobs]
    here = not config.hydra.runtime.choices["hydra/launcher"].startswith("slurm")
    if current().dry:
        dry_run(checked, problems, here)
        return []
    if first == 0:
        find_problems(checked, problems, here)
    problems.refuse(len(job_overrides))
    return jobs


def _to_check(job: Job) -> Checked:
    task = job.config.copy()
    with read_write(task), open_dict(task):
        del task["hydra"]
    return Checked(job.number, tuple(filter_overrides(job.overrides)), task,
                   output_folder(job.config), job.config)


def _compose(context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]],
             first: int, problems: Problems) -> list[Job]:
    jobs = []
    taken = current().folders
    if first == 0:
        taken.clear()
    for number, overrides in enumerate(job_overrides, start=first):
        try:
            composed = context.config_loader.load_sweep_config(config, list(overrides))
        except COMPOSE_ERRORS as error:
            problems.add(number, explain(error, SWEEP))
            continue
        if composed.dry_run and not current().dry:
            problems.add(number, UserError("dry_run", "is one value for all jobs",
                                           "write dry_run=true, which checks them all"))
        with open_dict(composed):
            composed.hydra.job.id = composed.hydra.job.num = number
        folder = output_folder(composed)
        if folder in taken:
            raise UserError(SUBDIR, f"jobs {taken[folder]} and {number} would both write into "
                            f"{folder}", "let the folder depend on the job: ${hydra.job.num}")
        if any(len(os.fsencode(part)) > _LONGEST_NAME for part in folder.parts):
            raise UserError(SUBDIR, f"the name of job {number}'s folder has more than "
                            f"{_LONGEST_NAME} bytes", "name it by ${hydra.job.num}")
        taken[folder] = number
        with read_write(composed.hydra):  # Absolute: the job may start in another folder.
            composed.hydra.sweep.dir = str(Path(composed.hydra.sweep.dir).absolute())
        jobs.append(Job(number, list(overrides), composed, context))
    return jobs


def check_least(settings: Mapping[str, Any], **least: int) -> None:
    """Check launcher keys against their minima.

    Raises:
        UserError: a value is too small; the error names the key.
    """
    for key, minimum in least.items():
        if settings[key] is not None and settings[key] < minimum:
            raise UserError(f"hydra.launcher.{key}", f"{settings[key]} is out of range",
                            f"give a whole number at least {minimum}")


def output_folder(composed: DictConfig) -> Path:
    """Return the output folder that Hydra gives to a job."""
    with as_current(composed):
        folder = Path(OmegaConf.select(composed, SWEEP)) / str(OmegaConf.select(composed, SUBDIR))
        return folder.absolute()
