"""Handling of stop signals, which can be deferred to the end of a block.

The signals are Ctrl-C, SIGTERM, and SIGUSR2, which SLURM sends before preemption and the time
limit. Each raises `KeyboardInterrupt` in the main thread.
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
    """Defer stop signals to the end of the block; yield a function that says whether one came.

    At the end, the previous handler gets the first signal. A second Ctrl-C interrupts the block at
    once. Other signals often come in pairs, so a second one does nothing. Outside the main thread,
    where Python allows no handlers, nothing is deferred.

    Raises:
        KeyboardInterrupt: at the end of the block, if a signal came that is not ignored.
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
        except KeyboardInterrupt:  # raised by a handler that was just restored
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
    """Make SIGTERM and SIGUSR2 raise `KeyboardInterrupt`, as Ctrl-C does.

    Only the first of them does, so that later ones do not disturb the clean-up.
    """
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            _raised.set()
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        _raised.clear()
        for announced in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(announced, stop)


# Whether the handler above has raised a `KeyboardInterrupt` that nobody has caught yet.
_raised = threading.Event()


def raise_if_lost() -> None:
    """Raise the `KeyboardInterrupt` of `sigterm_interrupts` again if it was lost.

    Python drops what is raised in a finalizer or a weak reference's callback, and each import runs
    such callbacks. Long loops call this, so that a stop at such a moment is only delayed. Does
    nothing after `caught`, and outside the main thread.
    """
    if _raised.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def caught() -> None:
    """Say that the `KeyboardInterrupt` has been caught: the clean-up begins."""
    _raised.clear()
