"""The record of a run that begins, and its writing into the run folder."""

from __future__ import annotations

import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from kt_exp.results.record import FILE_NAME, RunRecord, collect_versions, write_record
from kt_exp.runs.git_state import git_state
from kt_exp.runs.run_folder import writing_to


def command_line() -> list[str]:
    """Return the command that started this process, for the record."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def new_record(command: list[str]) -> RunRecord:
    """Return the record of a run that begins now."""
    # Unresolved: an override may refer to a key that does not exist.
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task) or []
    return RunRecord(
        command=command, config={}, overrides=list(map(str, overrides)),
        versions=collect_versions(), git=git_state(), files={"result": FILE_NAME},
    )


def write(record: RunRecord, folder: Path) -> None:
    """Write the record as the result.json of a run folder.

    Raises:
        UserError: it cannot be written.
    """
    with writing_to(folder):
        write_record(record, folder)
