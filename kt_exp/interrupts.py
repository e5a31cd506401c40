"""Ctrl-C and SIGTERM taken between two steps, so that what is saved is never half a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether a stop was asked for; a second signal stops at once.

    A stop that the block did not act upon interrupts at its end.
    Outside the main thread, where Python allows no handlers, it always tells False.
    """
    asked = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = [signal.signal(number, handle) for number in _SIGNALS]
    try:
        yield asked.is_set
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
    if asked.is_set():
        raise KeyboardInterrupt


def sigterm_interrupts() -> None:
    """Let SIGTERM stop the program as Ctrl-C does: clean-up runs, the record is written."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
