"""Stop signals that wait until a block of code is done.

The signals are Ctrl-C, SIGTERM, and SIGUSR2, by which SLURM announces preemption and the time
limit. Each stops the program by a `KeyboardInterrupt` in the main thread.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Keep stop signals from interrupting the block; yield a function that tells if one came.

    The first signal that came is handled at the end of the block, as it was to be handled before.
    A second Ctrl-C interrupts the block at once. Other signals often come in pairs: the second one
    does nothing. Outside the main thread, where Python allows no handlers, nothing is deferred.

    Raises:
        KeyboardInterrupt: at the end, if a signal came that is not ignored.
    """
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        _install(dict.fromkeys(SIGNALS, handle))
        yield lambda: bool(came)
    finally:
        try:
            _install(before)
        except KeyboardInterrupt:  # from a handler that was just put back
            _install(before)
            raise
        if came:
            _handle(came[0], before[signal.Signals(came[0])])


def _install(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _handle(number: int, handler: Any) -> None:
    if callable(handler):
        handler(number, None)
    elif handler != signal.SIG_IGN:
        raise KeyboardInterrupt


def sigterm_interrupts() -> None:
    """Let SIGTERM and SIGUSR2 stop the program as Ctrl-C does: it cleans up, writes its record.

    The first of them does; those that follow do not disturb the clean-up.
    """
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for announced in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(announced, stop)
