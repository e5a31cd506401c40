"""Locks for any shared file system, which expire when their process dies.

A lock is a file that names its holder, which touches it every `TOUCH_SECONDS`. It is written under
another name and published by a hard link, which only one process can make, so nobody sees it
empty. A waiting process takes the lock over if the holder is gone: at once if it knows so
(process.py), else after `STALE_SECONDS` without a touch. While it waits for one lock it watches
them all, so that those of dead processes cost this time once. Neither `flock`, which network file
systems often lack, nor synchronised clocks are needed. A `KeyboardInterrupt` removes the file at
any time, even while the lock is being acquired or released.

If a lock is taken over from a process that was only suspended, both compute the same entry.
Entries are written atomically and are equal, so this only costs time.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from kt_exp import interrupts
from kt_exp.errors import UserError
from kt_exp.store.process import has_ended, identity, tag

TOUCH_SECONDS = 15.0
# Well above TOUCH_SECONDS, and above the minute for which NFS may cache a file's time.
STALE_SECONDS = 120.0
SUFFIX, DRAFT = ".lease", ".draft"
_POLL_SECONDS = 0.5
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Path → content and time of another process's lock, and since when this process has seen them so.
_watched: dict[Path, tuple[str, float, float]] = {}


@contextmanager
def hold(paths: Iterable[Path], on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the locks `paths` within the block; they are acquired in the order given.

    `on_wait` is called once for each lock that is not free.

    Raises:
        UserError: a lock file cannot be written.
    """
    leases = [Lease(path) for path in paths]
    try:
        try:
            for lease in leases:
                _wait_for(lease, on_wait)
            yield
        finally:
            _release(leases)
    except KeyboardInterrupt:
        _release(leases)  # The interrupt may have prevented the call above.
        raise


def abandoned(folder: Path, before: float) -> Iterator[Path]:
    """Yield the locks in `folder` whose process is known to have ended.

    Args:
        before: time of the file system; locks not touched since count as abandoned.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(OSError):
            there = _look(path)
            if there and (_is_dead(there[0]) or there[1] < before):
                yield path


def clear_abandoned(folder: Path, before: float) -> None:
    """Remove the `abandoned` locks in `folder`."""
    for path in abandoned(folder, before):
        with suppress(OSError):
            if there := _look(path):
                _remove(path, there[0])


def _wait_for(lease: Lease, on_wait: Callable[[], None]) -> None:
    try:
        lease.path.parent.mkdir(exist_ok=True)
        if not lease.acquire():
            on_wait()
            _watch_all(lease.path.parent)
            while not lease.acquire():
                time.sleep(_POLL_SECONDS)
    except OSError as error:
        remedy = "free some space, or name another folder" if error.errno in _FULL else \
            "name a folder you may write to"
        raise UserError("store.root", f"cannot lock {lease.path.parent} ({error.strerror})",
                        remedy) from error


def _watch_all(folder: Path) -> None:
    for path in folder.glob(f"*{SUFFIX}"):
        if there := _look(path):
            _unchanged(path, *there)


def _release(leases: Iterable[Lease]) -> None:
    with ExitStack() as each:  # If one raises, the others are still released.
        for lease in leases:
            each.callback(lease.release)


class Lease:
    """One process's claim to the lock file `path`; it may be held or not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = uuid.uuid4().hex
        self._owner = json.dumps({"token": self._token, **identity()})
        self._stop = threading.Event()

    def acquire(self) -> bool:
        """Acquire the lock if it is free or its holder is gone; return whether it is held now."""
        there = _look(self.path)
        if there is None:
            return self._create()
        if not (_is_dead(there[0]) or _unchanged(self.path, *there) > STALE_SECONDS):
            return False
        return _remove(self.path, there[0]) and self._create()

    def release(self) -> None:
        """Release the lock, if it is held and was not taken over."""
        with interrupts.deferred():
            self._stop.set()
            _remove(self.path, self._owner)

    def _create(self) -> bool:
        # An interrupt in between would leave a file that nobody removes.
        with interrupts.deferred():
            draft = self.path.with_name(f"{tag()}-{self._token}{DRAFT}")
            try:
                draft.write_text(self._owner, encoding="utf-8")
                if not self._publish(draft):
                    return False
            finally:
                draft.unlink(missing_ok=True)
            threading.Thread(target=self._touch, daemon=True).start()
        return True

    def _publish(self, draft: Path) -> bool:
        try:
            os.link(draft, self.path)
        except FileExistsError:
            # NFS may repeat a request that had succeeded.
            there = _look(self.path)
            return there is not None and there[0] == self._owner
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._write_exclusively()
        return True

    def _write_exclusively(self) -> bool:
        """Create the file with its content in two steps, where there are no hard links."""
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(self._owner)
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        return True

    def _touch(self) -> None:
        while not self._stop.wait(TOUCH_SECONDS):
            with suppress(OSError):
                if self.path.read_text(encoding="utf-8") == self._owner:
                    os.utime(self.path)


def _look(path: Path) -> tuple[str, float] | None:
    """Return a lock's content and the time of its last touch; None if it is free."""
    try:
        # Opening makes NFS ask the server for the file's current state.
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(), os.fstat(file.fileno()).st_mtime
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):  # NFS: removed while it was read
            return None
        raise


def _unchanged(path: Path, owner: str, touched: float) -> float:
    """Return for how many seconds this process has seen the lock as it is now."""
    seen, now = _watched.get(path), time.monotonic()
    if seen is None or seen[:2] != (owner, touched):
        _watched[path] = seen = (owner, touched, now)
    return now - seen[2]


def _remove(path: Path, owner: str) -> bool:
    """Remove the lock if it is that of `owner`; return whether the lock is free now."""
    there = _look(path)
    if there is None or there[0] != owner:
        return there is None
    # By renaming, which only one process can do: another may have taken the lock meanwhile.
    aside = path.with_name(f"{tag()}-{uuid.uuid4().hex}{DRAFT}")
    with interrupts.deferred():
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return True
        there = _look(aside)
        if there and there[0] != owner:
            os.rename(aside, path)
            return False
        aside.unlink(missing_ok=True)
    return True


def _is_dead(owner: str) -> bool:
    """Return whether the holder is known to have ended."""
    try:
        holder: Any = json.loads(owner)
    except (ValueError, RecursionError):
        return False  # Where there are no hard links, it may still be being written.
    return isinstance(holder, dict) and has_ended(holder)
