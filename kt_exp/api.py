"""kt_exp from Python: what `kt-exp` and `kt-report` do, as functions.

Overrides are those of the command line: `kt_exp.run(["concepts.only=[gyroscope]", "seed=1"])`.
Bad input raises `UserError`; nothing exits the interpreter. Hydra and logging are left as they were,
also within a Hydra app of the caller's own. While a run lasts, logging goes where that of `kt-exp`
goes: to standard error and to the run folder's kt_exp.log. Calls from several threads run one after
the other.
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
from kt_exp.runs.session import Session
from kt_exp.runs.skip_completed import completed_run
from kt_exp.schema import Config, parse

if TYPE_CHECKING:
    import pandas

    from kt_exp.models.protocol import Model

log = logging.getLogger(__name__)


def run(overrides: Sequence[str] = (), *, folder: Path | str | None = None) -> RunRecord:
    """Run inversion, fine-tuning and evaluation as `kt-exp` does; return the run's record.

    The run folder holds what a run of the command line leaves there. A run that the folder holds
    completed is not repeated, unless `on_existing=rerun` says so.

    Args:
        overrides: as on the command line, one string each. Of Hydra's own keys only
            `hydra.searchpath`.
        folder: the run folder, created if absent; relative to the working directory. None: a new
            one below outputs/, which the log names.

    Raises:
        UserError: bad input, in one line.
        KeyboardInterrupt: stopped; the same call goes on where it stopped.
    """
    from kt_exp.runs.job import execute

    def job(cfg: DictConfig) -> RunRecord:
        home = Path(HydraConfig.get().runtime.output_dir)
        record = completed_run(cfg, home) or execute(
            cfg, home, session, command=["kt_exp.run", *overrides])
        here = Path.cwd()
        log.info("Results: %s", home.relative_to(here) if home.is_relative_to(here) else home)
        return record

    with Session().active() as session:
        return run_once(overrides, job, folder)


def compose(overrides: Sequence[str] = ()) -> Config:
    """Return the typed, checked config that `overrides` lead to.

    Raises:
        UserError: an unknown key or option, a missing, mistyped or out-of-range value.
    """
    return with_composed(overrides, parse)


def load_model(config: Config) -> Model:
    """Return the model of a config, on its device, in eval mode.

    Raises:
        UserError: no such device, or no weights.
    """
    from kt_exp.models import factory

    return factory.load_model(config.model, factory.pick_device(config.device), config.precision)


def read_run(folder: Path | str) -> RunRecord:
    """Return the record of a run, from its folder or its result.json.

    Raises:
        UserError: no record there, or a damaged one.
    """
    return read_record(folder)


def read_runs(folder: Path | str) -> pandas.DataFrame:
    """Return all metrics of all runs under `folder`, one row each.

    Columns: `folder`, `status`, `seed`, one for each config key that an override sets, `phase`,
    `concept`, `split`, `metric`, `value` (in [0, 1]; CIDEr may pass 1), `count`, `total`. A run
    without metrics (pending, failed) has one row without values.

    Raises:
        UserError: no such folder, or pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UserError("read_runs", "pandas is not installed",
                        "pip install 'kt_exp[pandas]'") from None
    rows = []
    for job in find_jobs([Path(folder)]):
        keys = [override.partition("=")[0].lstrip("+~") for override in job.overrides]
        about = {"folder": str(job.folder), "status": job.state, "seed": job.value("seed")}
        about |= {key: job.value(key) for key in keys}
        measured = job.record.metrics if job.record else []
        rows += [about | vars(metric) for metric in measured] or [about]
    return pandas.DataFrame(rows)
