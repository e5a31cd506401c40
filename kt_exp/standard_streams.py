"""Standard output that is closed, or whose reader has gone: nothing to fail a run for."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

log = logging.getLogger(__name__)


def open_standard_streams() -> None:
    """Open what the caller has closed (`>&-`) as /dev/null, so that it can be written to."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def discard_output() -> None:
    """Send what is still to be written to standard output nowhere.

    Otherwise Python would try to write it again at its exit, and complain.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_if_possible(action: Callable[[], object]) -> None:
    """Call `action`, which prints; if nobody reads it or the disk is full, go on without it."""
    try:
        action()
        sys.stdout.flush()
    except OSError as error:
        discard_output()
        if not isinstance(error, BrokenPipeError):
            log.warning("Standard output cannot be written: %s", error.strerror)
