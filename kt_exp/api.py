"""kt_exp from Python: what `kt-exp` and `kt-report` do, as functions.

Overrides are those of the command line: `kt_exp.run(["concepts.only=[gyroscope]", "seed=1"])`.
Bad input raises `UserError`; nothing exits the interpreter, and no state of Hydra or of logging is
left behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kt_exp.errors import UserError
from kt_exp.report.runs import find_jobs
from kt_exp.results.record import RunRecord, read_record
from kt_exp.runs.isolated_hydra import composed, run_once
from kt_exp.runs.session import Session
from kt_exp.runs.skip_completed import completed_run
from kt_exp.schema import Config, parse

if TYPE_CHECKING:
    import pandas

    from kt_exp.models.protocol import Model


def run(overrides: Sequence[str] = (), *, folder: Path | str | None = None) -> RunRecord:
    """Run inversion, fine-tuning and evaluation as `kt-exp` does; return the run's record.

    The run folder holds what a run of the command line leaves there. A run that the folder holds
    completed is not repeated, unless `on_existing=rerun` says so.

    Args:
        overrides: as on the command line, one string each.
        folder: the run folder, created if absent; None: `hydra.run.dir` of the config.

    Raises:
        UserError: bad input, in one line.
        KeyboardInterrupt: stopped; the same call goes on where it stopped.
    """
    from kt_exp.runs.job import execute

    def job(cfg: DictConfig) -> RunRecord:
        home = Path(HydraConfig.get().runtime.output_dir)
        with Session().active() as session:
            return completed_run(cfg, home) or execute(
                cfg, home, session, command=["kt_exp.run", *overrides])

    return run_once(overrides, job, folder)


def compose(overrides: Sequence[str] = ()) -> Config:
    """Return the typed, checked config that `overrides` lead to.

    Raises:
        UserError: an unknown key or option, a missing, mistyped or out-of-range value.
    """
    return parse(composed(overrides))


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
