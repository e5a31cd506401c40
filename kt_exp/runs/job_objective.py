"""What a job returns to Hydra: its objective, read from the record in its folder."""

from __future__ import annotations

import math
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from kt_exp.config.checks import check
from kt_exp.errors import UserError
from kt_exp.results.objective import ObjectiveSettings
from kt_exp.results.record import RunRecord, read_record


def job_objective(cfg: DictConfig, folder: Path, code: int) -> float | tuple[float, ...]:
    """Return the objective of the job that ended with exit code `code` in `folder`.

    It is a tuple if the config has several, and NaN in each place if the job failed.
    """
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ObjectiveSettings),
                                                   OmegaConf.to_container(cfg.objective)))
    assert isinstance(settings, ObjectiveSettings)
    try:
        check(settings, "objective")
    except UserError:  # The job has been refused for it.
        return math.nan
    return settings.of(_record(folder) if code == 0 else None)


def _record(folder: Path) -> RunRecord | None:
    """Return the record in `folder`; None if there is none yet: a job that nobody waits for."""
    try:
        return read_record(folder)
    except UserError:
        return None
