"""The launchers that conf/hydra/launcher/ configures, where Hydra looks for them.

Hydra imports this module at each start, so it holds the shells alone: kt_exp/launch/ does the work.
Its annotations are not postponed, as dataclasses could not read those of a module that Hydra's
import leaves out of `sys.modules`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Optional

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig


class CheckedBasicSweeper(BasicSweeper):
    """Hydra's own, which would compose all jobs for a check before the launcher does so."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leave the check to the launcher, which reports all problems."""


class InProcessLauncher(BasicLauncher):
    """Hydra's own, which would compose each job again and check none of them."""

    def launch(self, job_overrides: Sequence[Sequence[str]],
               initial_job_idx: int) -> Sequence[JobReturn]:
        from kt_exp.launch.in_process import run_here
        from kt_exp.launch.job import prepare

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.task_function is not None
        jobs = prepare(self.hydra_context, self.config, job_overrides, initial_job_idx)
        return run_here(jobs, self.task_function, self.config)


@dataclass(kw_only=True)
class LocalSettings:
    """Keys of `hydra/launcher=local_processes`."""

    _target_: str
    array_parallelism: int
    cpus_per_task: Optional[int]
    gpus: list[int]


class LocalLauncher(Launcher):
    """Runs the jobs in processes of this machine, some at the same time."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction,
              config: DictConfig) -> None:
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]],
               initial_job_idx: int) -> Sequence[JobReturn]:
        from kt_exp.launch.job import prepare
        from kt_exp.launch.local import run_in_processes

        jobs = prepare(self.context, self.config, job_overrides, initial_job_idx)
        return run_in_processes(jobs, **self.settings) if jobs else []


ConfigStore.instance().store(group="hydra/launcher", name="kt_exp_local", node=LocalSettings)

if find_spec("hydra_plugins.hydra_submitit_launcher"):  # the extra `slurm`
    from hydra_plugins.hydra_submitit_launcher import config, submitit_launcher

    @dataclass
    class SlurmSettings(config.SlurmQueueConf):
        """Keys of `hydra/launcher=slurm_gpu`: those of hydra-submitit-launcher, and two more."""

        requeue: bool = MISSING
        wait: bool = MISSING

    class SlurmLauncher(submitit_launcher.SlurmLauncher):
        """hydra-submitit-launcher's for SLURM, which loses no job: see docs/cluster.md.

        That one raises at the first job that failed, takes preemption for a time-out, and
        composes the jobs when they start.
        """

        def launch(self, job_overrides: Sequence[Sequence[str]],
                   initial_job_idx: int) -> Sequence[JobReturn]:
            from kt_exp.launch.job import prepare
            from kt_exp.launch.slurm import submit

            jobs = prepare(self.hydra_context, self.config, job_overrides, initial_job_idx)
            return submit(jobs, self.params) if jobs else []

    ConfigStore.instance().store(group="hydra/launcher", name="kt_exp_slurm", node=SlurmSettings)
