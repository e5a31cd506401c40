"""Python interface to what `kt-exp` and `kt-report` do.

Overrides are those of the command line: `kt_exp.run(["concepts.only=[gyroscope]", "seed=1"])`.
Bad input raises `UserError`; nothing exits the interpreter. The state of Hydra and of logging is
restored, also within your own Hydra app. During a run, logs go where those of `kt-exp` go: to
standard error and to kt_exp.log in the run folder. Calls from several threads run one at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kt_exp.errors import UserError
from kt_exp.report.runs import find_jobs
from kt_exp.results.record import RunRecord, read_record
from kt_exp.runs.isolated_hydra import run_once, with_composed
from kt_exp.runs.overrides import key_of
from kt_exp.runs.session import Session
from kt_exp.runs.skip_completed import completed_run
from kt_exp.schema import Config, parse

if TYPE_CHECKING:
    import pandas

    from kt_exp.models.protocol import Model

log = logging.getLogger(__name__)


def run(overrides: Sequence[str] = (), *, folder: Path | str | None = None) -> RunRecord:
    """Run inversion, fine-tuning and evaluation as `kt-exp` does; return the run's record.

    The run folder gets the same files as from the command line. A run that is already completed in
    the folder is not repeated, except with `on_existing=rerun`.

    Args:
        overrides: as on the command line, one string each. Of Hydra's own keys only
            `hydra.searchpath`.
        folder: the run folder, created if absent; relative to the working directory. None: a new
            one below outputs/, which the log names.

    Raises:
        UserError: bad input, in one line.
        KeyboardInterrupt: the process was told to stop; the same call resumes the run.
    """
    from kt_exp.runs.job import execute

    def job(cfg: DictConfig) -> RunRecord:
        if cfg.dry_run:
            raise UserError("dry_run", "is for the command line", "kt-exp dry_run=true …")
        home = Path(HydraConfig.get().runtime.output_dir)
        record = completed_run(cfg, home) or execute(
            cfg, home, session, command=["kt_exp.run", *overrides])
        here = Path.cwd()
        log.info("Results: %s", home.relative_to(here) if home.is_relative_to(here) else home)
        return record

    with Session().active() as session:
        return run_once(overrides, job, folder)


def compose(overrides: Sequence[str] = ()) -> Config:
    """Return the typed, checked config for `overrides`.

    Raises:
        UserError: a key or option is unknown, or a value is missing, mistyped or out of range.
    """
    return with_composed(overrides, parse)


def load_model(config: Config) -> Model:
    """Return the model of a config, on its device, in eval mode.

    Raises:
        UserError: the device or the weights are not available.
    """
    from kt_exp.models import factory

    return factory.load_model(config.model, factory.pick_device(config.device), config.precision)


def read_run(folder: Path | str) -> RunRecord:
    """Return the record of a run, from its folder or its result.json.

    Raises:
        UserError: there is no record, or it is damaged.
    """
    return read_record(folder)


def read_runs(folder: Path | str) -> pandas.DataFrame:
    """Return all metrics of all runs under `folder`, one row each.

    Columns: `folder`, `status`, `seed`, one per overridden config key, `phase`,
    `concept`, `split`, `metric`, `value` (in [0, 1]; CIDEr may exceed 1), `count`, `total`. A run
    without metrics (pending, failed) has one row without values.

    Raises:
        UserError: the folder does not exist, or pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UserError("read_runs", "pandas is not installed",
                        "pip install 'kt_exp[pandas]'") from None
    rows = []
    for job in find_jobs([Path(folder)]):
        keys = [key_of(override) for override in job.overrides]
        about = {"folder": str(job.folder), "status": job.state, "seed": job.value("seed")}
        about |= {key: job.value(key) for key in keys}
        measured = job.record.metrics if job.record else []
        rows += [about | vars(metric) for metric in measured] or [about]
    return pandas.DataFrame(rows)
