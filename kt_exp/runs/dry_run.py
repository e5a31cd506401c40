"""`dry_run=true`: check jobs and show what they would compute and write, without doing it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kt_exp.errors import UserError
from kt_exp.runs.check import Checked, Problems, find_problems
from kt_exp.runs.session import Session, current


@contextmanager
def leaving_nothing(session: Session) -> Iterator[None]:
    """Remove the folder that a dry run wrote to, at the end of the block."""
    try:
        yield
    finally:
        if session.dry:
            shutil.rmtree(session.dry, ignore_errors=True)


def temporary_folder(session: Session) -> str:
    """Return a folder for what Hydra writes before the jobs of a dry run begin."""
    session.dry = Path(tempfile.mkdtemp(prefix="kt_exp-dry-run-"))
    return str(session.dry)


def dry_run(jobs: Sequence[Checked], problems: Problems, on_this_machine: bool = True) -> None:
    """Check jobs and print a table of their costs, or what is wrong with them.

    Args:
        problems: those found before.
        on_this_machine: whether the jobs would run here, so that the device has to be here, too.

    Raises:
        UserError: jobs cannot run; lines before it say why, unless all have the same problem.
    """
    total = len({*problems.numbers, *(job.number for job in jobs)})
    to_run = find_problems(jobs, problems, on_this_machine)
    if not problems.errors:
        from kt_exp.runs.cost_table import CostTable  # imports torch

        table = CostTable(current().caches, on_this_machine)
        with _only_warnings():
            for job in jobs:
                try:
                    table.add(job, completed=job not in to_run)
                except UserError as error:
                    problems.add(job.number, error)
        if not problems.errors:
            table.print()
    problems.refuse(total)


@contextmanager
def _only_warnings() -> Iterator[None]:
    """Keep libraries from telling how they load a model."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
