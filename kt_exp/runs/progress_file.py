"""Progress of a job, written to its folder for `kt-report status`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Self

from kt_exp import interrupts
from kt_exp.atomic import write_atomically
from kt_exp.progress import Bar, Field, Progress
from kt_exp.results.progress_record import FILE_NAME, Snapshot, now

log = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
BEAT_SECONDS = 30.0


class ProgressFile:
    """Shows progress like `inner`, and writes it to `folder/progress.json`.

    Call `begin` at the start of each stage. The file is written atomically, at most every
    `WRITE_SECONDS`; if it cannot be written, the job continues. Within a `with` block it is also
    written every `BEAT_SECONDS`, to show that a job that loads a model or waits is alive. A stop
    signal that was lost is noticed here (`interrupts.raise_if_lost`).
    """

    def __init__(self, folder: Path, inner: Progress) -> None:
        self._path, self._inner, self._written = folder / FILE_NAME, inner, 0.0
        self._snapshot = Snapshot.new("", "", 0)
        self._ended = Event()
        self._beats = Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._beats.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._beats.join()

    def begin(self, stage: str) -> None:
        """Write progress under the name of `stage` from now on."""
        interrupts.raise_if_lost()
        self._write(Snapshot.new(stage, "", 0))

    @contextmanager
    def __call__(self, description: str, total: int) -> Iterator[Bar]:
        snapshot = Snapshot.new(self._snapshot.stage, description, total)
        self._write(snapshot)
        with self._inner(description, total) as bar:
            yield _WrittenBar(bar, snapshot, self._write_at_times)
        self._write(snapshot)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._write(self._snapshot)

    def _write_at_times(self, snapshot: Snapshot) -> None:
        if monotonic() - self._written >= WRITE_SECONDS:
            self._write(snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        self._snapshot, self._written = snapshot, monotonic()
        snapshot.updated = now()
        try:
            write_atomically(self._path, json.dumps(asdict(snapshot)) + "\n")
        except OSError as error:
            log.debug("%s could not be written: %s", self._path, error)


class _WrittenBar:
    def __init__(self, bar: Bar, snapshot: Snapshot, write: Callable[[Snapshot], None]) -> None:
        self._bar, self._snapshot, self._write = bar, snapshot, write

    def advance(self, n: int = 1, *, earlier: bool = False, **fields: Field) -> None:
        interrupts.raise_if_lost()
        self._bar.advance(n, earlier=earlier, **fields)
        self._snapshot.done += n
        self._snapshot.earlier += n * earlier
        self._write(self._snapshot)
