"""Launcher that runs jobs one after another in this process, as Hydra's basic launcher does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, configure_log, run_job
from hydra.types import TaskFunction
from omegaconf import DictConfig

from kt_exp.launch.job import SUBDIR, SWEEP, Job

log = logging.getLogger(__name__)


def run_here(jobs: Sequence[Job], task: TaskFunction, config: DictConfig) -> list[JobReturn]:
    """Run the jobs by `task`, which Hydra calls with each job's config; return their results."""
    if not jobs:
        return []
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    log.info("Launching %d jobs locally", len(jobs))
    ended = []
    for job in jobs:
        log.info("\t%s", job.title)
        ended.append(run_job(hydra_context=job.context, task_function=task, config=job.config,
                             job_dir_key=SWEEP, job_subdir_key=SUBDIR))
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    return ended
