"""Launcher that submits a multirun to SLURM as one job array, by submitit."""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import submitit
from hydra.core.utils import JobReturn, filter_overrides
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

from kt_exp import interrupts
from kt_exp.errors import UserError, did_you_mean
from kt_exp.launch.job import Job, check_least
from kt_exp.launch.requeue import Requeued
from kt_exp.launch.snapshot import environment, take_snapshot
from kt_exp.results.submission import remember
from kt_exp.runs.session import current

log = logging.getLogger(__name__)

COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "sinfo")
_LONGEST_POLL_SECONDS = 30.0
_ALIVE = {"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED",
          "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED",
          "SPECIAL_EXIT", "PREEMPTED"}


def submit(jobs: Sequence[Job], settings: Mapping[str, Any]) -> list[JobReturn]:
    """Submit the jobs as one array; return their results, or success without waiting.

    Raises:
        UserError: there is no SLURM, it rejects a value of `hydra.launcher`, or sbatch fails.
    """
    check(settings)
    logs = submitit.core.utils.JobPaths.get_first_id_independent_folder(
        Path(settings["submitit_folder"]))
    executor = _executor(settings, take_snapshot(logs))
    try:
        with executor.batch():
            submitted = [executor.submit(Requeued(job, settings["requeue"],
                                                  settings["max_num_timeout"])) for job in jobs]
    except submitit.core.utils.FailedJobError as error:
        raise UserError("hydra.launcher", f"sbatch refused ({error})",
                        "sinfo shows what this SLURM has") from error
    remember(logs, {sent.job_id: filter_overrides(job.overrides)
                    for job, sent in zip(jobs, submitted, strict=True)})
    for job in jobs:
        log.info("\t%s", job.title)
    array = submitted[0].job_id.partition("_")[0]
    log.info("Submitted %d jobs to SLURM as %s, logs in %s; `scancel %s` stops them",
             len(jobs), array, logs, array)
    if not settings["wait"]:
        log.info("Not waiting for them: `kt-report status %s` tells how they do",
                 jobs[0].config.hydra.sweep.dir)
        return [job.returned(0) for job in jobs]
    interrupts.sigterm_interrupts()
    try:
        states = _wait(array, [job.job_id for job in submitted])
    except KeyboardInterrupt:
        log.warning("No longer waiting; the jobs go on, `scancel %s` stops them", array)
        raise
    for job, sent in zip(jobs, submitted, strict=True):
        log.info("\t#%d %s (%s)", job.number, states[sent.job_id], sent.paths.stdout)
    codes = [int(states[sent.job_id] not in ("COMPLETED", _GONE)) for sent in submitted]
    current().codes += codes
    return [job.returned(code) for job, code in zip(jobs, codes, strict=True)]


def check(settings: Mapping[str, Any]) -> None:
    """Check the settings before anything is submitted.

    Raises:
        UserError: SLURM's commands are missing, its controller does not answer, the partition does
            not exist, or a number is out of range.
    """
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        raise UserError("hydra/launcher", f"SLURM's {', '.join(missing)} not found on PATH",
                        "submit from a machine of the cluster, or take local_processes")
    check_least(settings, array_parallelism=1, cpus_per_task=1, timeout_min=1, signal_delay_s=1,
                max_num_timeout=0)
    if settings["signal_delay_s"] >= 60 * settings["timeout_min"]:
        raise UserError("hydra.launcher.signal_delay_s", "not below the time limit: the job would "
                        "be told to stop as it starts", "raise hydra.launcher.timeout_min")
    known = _slurm("sinfo", "--noheader", "--format=%R").split()
    for partition in (settings["partition"] or "").split(","):
        if partition and partition not in known:
            raise UserError("hydra.launcher.partition", f"SLURM has no partition '{partition}'",
                            did_you_mean(partition, set(known)))


def _executor(settings: Mapping[str, Any], code: Path) -> submitit.AutoExecutor:
    executor = submitit.AutoExecutor(settings["submitit_folder"], cluster="slurm")
    options = {key: value for key, value in settings.items()
               if key not in ("submitit_folder", "max_num_timeout", "requeue", "wait")}
    general = {declared.name for declared in fields(BaseQueueConf)}
    variables = environment(code)
    if cpus := settings["cpus_per_task"]:
        # srun does not inherit the number of cores from sbatch.
        variables |= {"OMP_NUM_THREADS": str(cpus), "SRUN_CPUS_PER_TASK": str(cpus)}
    options["setup"] = [*(options["setup"] or []), *(
        f"export {name}={shlex.quote(value)}" for name, value in variables.items())]
    options["additional_parameters"] = {
        "requeue" if settings["requeue"] else "no-requeue": True,
        **options["additional_parameters"],
    }
    executor.update_parameters(**{key if key in general else f"slurm_{key}": value
                                  for key, value in options.items() if value is not None})
    return executor


# SLURM forgets a job a few minutes after its end. Its result.json then says how it ended.
_GONE = "GONE"


def _wait(array: str, ids: Sequence[str]) -> dict[str, str]:
    """Wait for all jobs of an array; return the final state of each."""
    ended: dict[str, str] = {}
    pause = 1.0
    while len(ended) < len(ids):
        time.sleep(pause)
        pause = min(1.2 * pause, _LONGEST_POLL_SECONDS)
        states = _states(array)
        if states is not None:
            now = {job: states.get(job, _GONE) for job in ids if job not in ended}
            ended |= {job: state for job, state in now.items() if state not in _ALIVE}
    return ended


def _states(array: str) -> dict[str, str] | None:
    """Return the states of an array's jobs; None if SLURM does not answer at the moment.

    squeue works without accounting, which not every cluster has.
    """
    done = subprocess.run(
        ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--jobs={array}"],
        capture_output=True, text=True)
    if done.returncode != 0:
        return {} if "Invalid job id" in done.stderr else None
    return dict(line.split() for line in done.stdout.splitlines())


def _slurm(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError("hydra/launcher", f"{command[0]} fails ({done.stderr.strip()})",
                        "is SLURM running, and SLURM_CONF right?")
    return done.stdout
