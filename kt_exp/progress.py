"""Progress of a long loop: a bar on a terminal, occasional log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from kt_exp.errors import printable

log = logging.getLogger(__name__)

DRAW_SECONDS = 0.25
LOG_SECONDS = 10.0
SHORT_SECONDS = 2.0

Field = float | str | Callable[[], float | str]

# One console for bars and log lines, so that rich prints lines above the bar, not into it.
_console = Console(stderr=True, highlight=False)


class Bar(Protocol):
    """Receives the progress of a loop."""

    def advance(self, n: int = 1, *, earlier: bool = False, **fields: Field) -> None:
        """Advance by `n` steps; show `fields` (`similarity=0.71`).

        `earlier` steps were done by an earlier run and do not count for the time estimate. A field
        may be a function without arguments. It is called only when drawn, so that the loop waits
        for a number on the GPU a few times per second, not at every step.
        """
        ...


Progress = Callable[[str, int], AbstractContextManager[Bar]]


@contextmanager
def progress(description: str, total: int) -> Iterator[Bar]:
    """Show the progress of `total` steps on standard error within the block."""
    if sys.stderr.isatty() and not _console.is_dumb_terminal:
        with _bar() as bar:
            yield _Bar(bar, description, total)
    else:
        lines = _Lines(description, total)
        yield lines
        lines.finish()


def duration(seconds: float) -> str:
    """Return "7.4 s", "1 min 14 s" or "2 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


class ConsoleHandler(logging.Handler):
    """Logging to standard error without breaking a running progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _console.print(Text(printable(self.format(record))), soft_wrap=True)
        except Exception:
            self.handleError(record)


class _Bar:
    """Draws on `advance`, at most every `DRAW_SECONDS`; needs no thread."""

    def __init__(self, bar: RichProgress, description: str, total: int) -> None:
        self._bar, self._drawn = bar, 0.0
        self._task = bar.add_task(description, total=total, shown="")
        bar.refresh()

    def advance(self, n: int = 1, *, earlier: bool = False, **fields: Field) -> None:
        if earlier:
            self._bar.reset(self._task, completed=int(self._bar.tasks[0].completed) + n)
        else:
            self._bar.advance(self._task, n)
        now = time.monotonic()
        if now - self._drawn >= DRAW_SECONDS or self._bar.finished:
            self._bar.update(self._task, shown=_as_text(fields))
            self._bar.refresh()
            self._drawn = now


class _Lines:
    """Logs at most every `LOG_SECONDS`, and a last line if the loop took `SHORT_SECONDS`."""

    def __init__(self, description: str, total: int) -> None:
        self._description, self._total, self._done, self._earlier = description, total, 0, 0
        self._start = self._logged = time.monotonic()
        self._fields: dict[str, Field] = {}

    def advance(self, n: int = 1, *, earlier: bool = False, **fields: Field) -> None:
        self._done += n
        self._earlier += n * earlier
        self._fields = fields
        now = time.monotonic()
        if now - self._logged < LOG_SECONDS or not self._earlier < self._done < self._total:
            return
        self._logged = now
        left = (now - self._start) * (self._total - self._done) / (self._done - self._earlier)
        self._log(f"{100 * self._done / self._total:.0f}%, {duration(left)} left")

    def finish(self) -> None:
        if (seconds := time.monotonic() - self._start) >= SHORT_SECONDS:
            self._log(f"{self._done}/{self._total} in {duration(seconds)}")

    def _log(self, state: str) -> None:
        shown = _as_text(self._fields)
        log.info("%s: %s%s", self._description, state, shown and f", {shown}")


class _TimeColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(duration(task.finished_time or 0))
        return Text("" if task.time_remaining is None else f"{duration(task.time_remaining)} left")


class _ShownColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["shown"])


def _bar() -> RichProgress:
    return RichProgress(
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=None),
        MofNCompleteColumn(), _TimeColumn(), _ShownColumn(),
        console=_console, auto_refresh=False,
    )


def _as_text(fields: dict[str, Any]) -> str:
    values = {name: value() if callable(value) else value for name, value in fields.items()}
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.2f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
