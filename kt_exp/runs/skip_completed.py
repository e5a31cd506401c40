"""Skipping of jobs whose folder already holds a completed run.

Reads records and configs only, so that a skipped job does not import torch.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kt_exp.config.renames import with_current_names
from kt_exp.errors import EXIT_BAD_INPUT, UserError, did_you_mean
from kt_exp.results.record import FILE_NAME, RunRecord, plain, read_record
from kt_exp.runs.new_record import command_line
from kt_exp.runs.refusal import refused
from kt_exp.runs.session import Session
from kt_exp.schema import ON_EXISTING, to_plain
from kt_exp.standard_streams import print_if_possible

log = logging.getLogger(__name__)

# Keys that do not affect results: runs that differ in them count as the same.
_FREE = {"check_files", "dry_run", "max_inversion_hours", "objective", "on_existing", "store",
         "tracker", "traceback"}
_SHOWN = 3


def run_unless_done(cfg: DictConfig, session: Session) -> int:
    """Run one job in Hydra's output folder, or show the run that the folder holds (`on_existing`).

    Returns the exit code, as `kt_exp.runs.job.run_job` does.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        record = completed_run(cfg, folder)
        if record is None and refused(cfg, folder, command_line()):
            return EXIT_BAD_INPUT
    except UserError as error:
        log.error("kt-exp: error: %s", error)
        return EXIT_BAD_INPUT
    if record is None:
        if sys.stderr.isatty():  # Somebody watches, and the imports take seconds.
            log.info("Results go to %s", os.path.relpath(folder))
        from kt_exp.runs.job import run_job

        return run_job(cfg, session)
    from kt_exp.runs.console import print_summary

    print_if_possible(lambda: print_summary(record, folder))
    print_if_possible(lambda: print(
        f"Skipped, as completed before: {folder} (on_existing=rerun runs it again)"))
    return 0


def completed_run(cfg: DictConfig, folder: Path) -> RunRecord | None:
    """Return the record of the same run if `folder` holds it completed; None if it has to run.

    A run is completed if all its files are there.

    Raises:
        UserError: the folder holds a completed run of another config, any completed run with
            `on_existing: error`, or an unreadable record; or `on_existing` has an unknown value.
    """
    choice = str(cfg.get("on_existing"))
    if choice not in ON_EXISTING:  # Before anything in the folder is replaced.
        raise UserError("on_existing", f"'{choice}' is not an option",
                        did_you_mean(choice, ON_EXISTING))
    if choice == "rerun" or not (folder / FILE_NAME).exists():
        return None
    record = read_record(folder)
    if record.status != "completed":
        return None
    if missing := [path for path in record.files.values() if not (folder / path).exists()]:
        log.warning("%s was completed, but lacks %s: running it again.", folder,
                    ", ".join(missing))
        return None
    if choice == "error":
        raise UserError("on_existing", f"{folder} holds a completed run",
                        "give another folder, or on_existing=skip or rerun")
    there = with_current_names(record.config)
    if differences := list(_differences(there, plain(to_plain(cfg)))):
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise UserError(
            "on_existing", f"{folder} holds a completed run of another config: "
            f"{', '.join(differences[:_SHOWN])}{more}", "give another folder, or on_existing=rerun")
    return record


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "",
                 ) -> Iterator[str]:
    """Yield "key is value there, value here" in the config's order, also for one-sided keys."""
    for key in dict.fromkeys([*here, *there]):
        before, now = there.get(key), here.get(key)
        if (not prefix and key in _FREE) or before == now:
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from _differences(before, now, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key} is {_short(before)} there, {_short(now)} here"


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
