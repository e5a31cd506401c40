"""The run that the trials are compared with, and the file operations of a run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trials.small_run import outcome_of, run_small

# Audit events of Python that change files; the path is the first argument.
OPERATIONS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.chmod",
              "os.utime"}


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to.

    Attributes:
        home: holds its `store` and its `run` folder.
        outcome: what it found (`outcome_of`).
        seconds: how long it took.
        operations: number of its file operations.
    """

    home: Path
    outcome: str
    seconds: float
    operations: int


def undisturbed(home: Path) -> Undisturbed:
    """Run the small job below `home`."""
    counted = home / "operations.txt"
    start = time.monotonic()
    ended = run_small(home, before=lambda: _count_operations(home, counted))
    seconds = time.monotonic() - start
    if problem := ended.problem({0}):
        raise RuntimeError(problem)
    return Undisturbed(home, outcome_of(home / "run"), seconds, int(counted.read_text()))


def at_operation(home: Path, number: int, act: Callable[[], object]) -> None:
    """Call `act` in this process before its file operation `number` below `home`, from 1.

    Audit hooks cannot be removed, so this is for a process of its own.
    """
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in OPERATIONS and str(arguments[0]).startswith(str(home)):
            seen += 1
            if seen == number:
                act()

    sys.addaudithook(hook)


def _count_operations(home: Path, counted: Path) -> None:
    """Write the number of this process's file operations when it ends."""
    operations = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal operations
        operations += event in OPERATIONS and str(arguments[0]).startswith(str(home))

    def leave(code: int) -> None:
        counted.write_text(str(operations))
        leave_at_once(code)

    leave_at_once, os._exit = os._exit, leave  # type: ignore[assignment]
    sys.addaudithook(hook)
