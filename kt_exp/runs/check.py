"""The check of jobs before any of them runs or is submitted.

First all that needs no code of plug-ins, which takes no import of torch; then, if that is in order,
plug-ins, data and weights. What several jobs share is checked once. Weights are not loaded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kt_exp.concepts import load_concepts
from kt_exp.config import plugins
from kt_exp.errors import UserError
from kt_exp.runs.skip_completed import completed_run
from kt_exp.schema import INVERTED, PLUGINS, Config, parse_settings, refuse_missing, to_plain


@dataclass(frozen=True)
class Checked:
    """A job to check.

    Attributes:
        number: of the job in its multirun.
        overrides: those of the config, without Hydra's own.
        cfg: the config without `hydra`.
        folder: the output folder.
        composed: the config with `hydra`; None if it is the current one of the process.
    """

    number: int
    overrides: tuple[str, ...]
    cfg: DictConfig
    folder: Path
    composed: DictConfig | None = None

    @contextmanager
    def current(self) -> Iterator[None]:
        """Resolve references to `hydra` from this job's config within the block."""
        with as_current(self.composed) if self.composed else nullcontext():
            yield

    @cached_property
    def settings(self) -> Config:
        """The typed config without plug-ins.

        Raises:
            UserError: a value is mistyped or out of range.
        """
        return parse_settings(self.cfg)


@contextmanager
def as_current(composed: DictConfig) -> Iterator[None]:
    """Make this config, with `hydra`, the one that references resolve from in the block."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(composed)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


@dataclass
class Problems:
    """What is wrong, each problem once, with the numbers of its jobs."""

    errors: dict[str, UserError] = field(default_factory=dict)
    jobs: dict[str, dict[int, None]] = field(default_factory=dict)

    def add(self, number: int, error: UserError) -> None:
        """Note that a job has a problem."""
        self.errors.setdefault(str(error), error)
        self.jobs.setdefault(str(error), {})[number] = None

    @property
    def numbers(self) -> set[int]:
        """The jobs that have a problem."""
        return {number for numbers in self.jobs.values() for number in numbers}

    def refuse(self, total: int) -> None:
        """Print a line for each problem of `total` jobs; do nothing if there is none.

        Raises:
            UserError: there are problems; the problem itself if it is the only one, of all jobs.
        """
        if not self.errors:
            return
        *others, last = self.errors.values()
        if not others and len(self.numbers) == total:
            raise last
        for line, numbers in self.jobs.items():
            print(f"kt-exp: error: {_named([*numbers], total)}: {line}", file=sys.stderr)
        raise UserError("sweep", f"{len(self.numbers)} of {total} jobs cannot run, so none was "
                        "started")


def find_problems(jobs: Sequence[Checked], problems: Problems, on_this_machine: bool,
                  ) -> list[Checked]:
    """Add what is wrong with the jobs to `problems`; return the jobs that are not completed yet.

    Args:
        on_this_machine: whether the jobs will run here, so that the device has to be here, too.
    """
    to_run = [job for job in jobs if _quick(job, problems)]
    if not problems.errors:
        check = _FileCheck(on_this_machine)
        for job in to_run:
            with job.current():
                for error in check.errors(job):
                    problems.add(job.number, error)
    return to_run


def _quick(job: Checked, problems: Problems) -> bool:
    """Check what needs no plug-ins; return whether the job has still to run."""
    steps: list[Callable[[], Any]] = [
        lambda: to_plain(job.cfg), lambda: refuse_missing(job.cfg),
        lambda: load_concepts(job.settings.concepts)]
    try:
        with job.current():
            if completed_run(job.cfg, job.folder):
                return False
    except UserError as error:
        steps = [_raising(error)]
    with job.current():
        for step in steps:
            try:
                step()
            except UserError as error:
                problems.add(job.number, error)
    return True


def _raising(error: UserError) -> Callable[[], Any]:
    def step() -> None:
        raise error

    return step


@dataclass
class _FileCheck:
    """Checks plug-ins, and whether data and weights are there; equal configs once."""

    on_this_machine: bool
    seen: dict[str, list[UserError]] = field(default_factory=dict)

    def errors(self, job: Checked) -> Iterator[UserError]:
        cfg, config, plain = job.cfg, job.settings, to_plain(job.cfg)
        parts: list[tuple[tuple[str, ...], Callable[[], Any]]] = [
            (("device",), lambda: self._device(config)),
            (("model", "check_files"), lambda: self._model(cfg.model, "model", config)),
            (("inversion", "check_files"),
             lambda: self._model(cfg.inversion.model, INVERTED, config)),
            (("benchmark", "concepts", "check_files"), lambda: self._benchmark(cfg, config)),
            (("finetune", "concepts", "check_files"), lambda: self._folders(config)),
            (("tracker",), lambda: plugins.build(cfg.tracker, PLUGINS[2])),
        ]
        for keys, check in parts:
            key = json.dumps([*keys, *(plain.get(key) for key in keys)], default=str)
            if key not in self.seen:
                self.seen[key] = _errors(check)
            yield from self.seen[key]

    def _device(self, config: Config) -> None:
        from kt_exp.models.factory import pick_device

        if self.on_this_machine:
            pick_device(config.device)

    def _model(self, section: DictConfig | None, key: str, config: Config) -> None:
        from kt_exp.models.factory import check_files

        spec = plugins.build(section, key) if section is not None else None
        if spec is not None and config.check_files:
            check_files(spec)

    def _benchmark(self, cfg: DictConfig, config: Config) -> None:
        benchmark = plugins.build(cfg.benchmark, "benchmark")
        if config.check_files:
            benchmark.check_concepts(load_concepts(config.concepts))

    def _folders(self, config: Config) -> None:
        from kt_exp.finetune.images import check_folders

        if config.check_files:
            check_folders(config.finetune, load_concepts(config.concepts))


def _errors(check: Callable[[], Any]) -> list[UserError]:
    try:
        check()
    except UserError as error:
        return [error]
    return []


def _named(numbers: Sequence[int], total: int) -> str:
    if len(numbers) == 1:
        return f"job {numbers[0]}"
    shown = ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")
    return f"all {total} jobs" if len(numbers) == total else f"{len(numbers)} jobs ({shown})"
