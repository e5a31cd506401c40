"""Signals to stop taken between two steps, so that what is saved is never half a step.

Those are Ctrl-C, SIGTERM, and SIGUSR2, by which SLURM announces preemption and the time limit.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether a stop was asked for; a second Ctrl-C stops at once.

    Other signals often come in pairs, and the second of them does not. A stop that the block did
    not act upon interrupts at its end.
    Outside the main thread, where Python allows no handlers, it always tells False.
    """
    asked = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = [signal.signal(number, handle) for number in SIGNALS]
    try:
        yield asked.is_set
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
    if asked.is_set():
        raise KeyboardInterrupt


def sigterm_interrupts() -> None:
    """Let SIGTERM and SIGUSR2 stop the program as Ctrl-C does: it cleans up, writes its record.

    The first of them does; those that follow shall not disturb the clean-up.
    """
    def stop(number: int, frame: FrameType | None) -> None:
        for follower in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(follower, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for announced in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(announced, stop)
