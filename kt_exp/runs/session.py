"""The state of one call of kt_exp: the caches that its jobs share, and their exit codes.

`run.main` and `kt_exp.run` create a session and pass it to their jobs. Objects that Hydra creates
(launchers, callbacks, log filters) get it from `current()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kt_exp.caches import Caches

_active: ContextVar[Session] = ContextVar("kt_exp_session")


@dataclass
class Session:
    """The state of one call, which may be a multirun.

    Attributes:
        codes: exit codes of the jobs that a launcher waited for.
        sweep: the folder of the multirun; None for a single run.
        left: whether the multirun was submitted without waiting for it.
        shown: errors that the terminal has already shown.
        dry: the folder that a dry run writes to, and that is removed at its end; None otherwise.
        target: of a dry run that is no multirun, the folder that the run would write to.
        folders: output folder → number of the job that writes there, over all batches of a
            multirun.
    """

    codes: list[int] = field(default_factory=list)
    sweep: Path | None = None
    left: bool = False
    shown: set[str] = field(default_factory=set)
    dry: Path | None = None
    target: Path | None = None
    folders: dict[Path, int] = field(default_factory=dict)

    @cached_property
    def caches(self) -> Caches:
        """Models and features that the jobs share; created on first use, since it imports torch."""
        from kt_exp.caches import Caches

        return Caches()

    @contextmanager
    def active(self) -> Iterator[Session]:
        """Make this the session that `current` returns within the block."""
        token = _active.set(self)
        try:
            yield self
        finally:
            _active.reset(token)


def current() -> Session:
    """Return the active session; a new one if kt_exp was started by another entry point."""
    try:
        return _active.get()
    except LookupError:
        session = Session()
        _active.set(session)
        return session
