"""Locks for any shared file system, which expire when their process dies.

A lock is a file that only one process can create. It names its holder, which touches the file
every `TOUCH_SECONDS`. A waiting process takes the lock over if the holder is gone: at once if that
was a process of the same machine, else after `STALE_SECONDS` without a touch. Neither `flock`,
which network file systems often lack, nor synchronised clocks are needed. A `KeyboardInterrupt`
removes the file at any time, even while the lock is being acquired or released.

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

TOUCH_SECONDS = 15.0
# Well above TOUCH_SECONDS, and above the minute for which NFS may cache a file's time.
STALE_SECONDS = 120.0
_POLL_SECONDS = 0.5
_FORGOTTEN_SECONDS = 24 * 3600


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


def _wait_for(lease: Lease, on_wait: Callable[[], None]) -> None:
    try:
        lease.path.parent.mkdir(exist_ok=True)
        if not lease.acquire():
            on_wait()
            while not lease.acquire():
                time.sleep(_POLL_SECONDS)
    except OSError as error:
        raise UserError("store.root", f"cannot lock {lease.path.parent} ({error.strerror})",
                        "name a folder you may write to") from error


def _release(leases: Iterable[Lease]) -> None:
    with ExitStack() as each:  # If one raises, the others are still released.
        for lease in leases:
            each.callback(lease.release)


class Lease:
    """One process's claim to the lock file `path`; it may be held or not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owner = json.dumps({"token": uuid.uuid4().hex, **_process(os.getpid())})
        self._stop = threading.Event()
        self._seen: tuple[str, float] | None = None  # content and time of the other's lock …
        self._since = 0.0  # … and since when they have not changed

    def acquire(self) -> bool:
        """Acquire the lock if it is free or its holder is gone; return whether it is held now."""
        if self._create():
            return True
        there = self._look()
        if there is None:
            return self._create()
        if not self._abandoned(*there):
            return False
        self._remove(there[0])
        return self._create()

    def release(self) -> None:
        """Release the lock, if it is held and was not taken over."""
        with interrupts.deferred():
            self._stop.set()
            self._remove(self._owner)

    def _create(self) -> bool:
        # An interrupt in between would leave a file that does not name its owner.
        with interrupts.deferred():
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return False
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(self._owner)
            threading.Thread(target=self._touch, daemon=True).start()
        return True

    def _touch(self) -> None:
        while not self._stop.wait(TOUCH_SECONDS):
            with suppress(OSError):
                if self.path.read_text(encoding="utf-8") == self._owner:
                    os.utime(self.path)

    def _look(self) -> tuple[str, float] | None:
        try:
            # Opening makes NFS ask the server for the file's current state.
            with self.path.open(encoding="utf-8") as file:
                return file.read(), os.fstat(file.fileno()).st_mtime
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # NFS: removed while it was read
                return None
            raise

    def _abandoned(self, owner: str, touched: float) -> bool:
        if _is_dead(owner):
            return True
        if self._seen != (owner, touched):
            self._seen, self._since = (owner, touched), time.monotonic()
        return time.monotonic() - self._since > STALE_SECONDS

    def _remove(self, owner: str) -> None:
        there = self._look()
        if there and there[0] == owner:
            self.path.unlink(missing_ok=True)


def is_abandoned(path: Path) -> bool:
    """Return whether no process holds the lock: it has ended, or has not touched it for a day."""
    try:
        owner, touched = path.read_text(encoding="utf-8"), path.stat().st_mtime
    except FileNotFoundError:
        return False
    # The clocks of two machines may differ, but not by that much.
    return _is_dead(owner) or time.time() - touched > _FORGOTTEN_SECONDS


def _is_dead(owner: str) -> bool:
    """Return whether the holder was a process of this machine that has ended."""
    try:
        holder: dict[str, Any] = json.loads(owner)
        pid, machine = int(holder["pid"]), holder["machine"]
    except (ValueError, KeyError, TypeError):
        return False  # The file is still being written.
    if machine is None or machine != _machine():
        return False
    return _started(pid) != holder["started"]


def _process(pid: int) -> dict[str, Any]:
    return {"pid": pid, "started": _started(pid), "machine": _machine(),
            "host": os.uname().nodename}


def _machine() -> str | None:
    """Return an id of the scope of process ids: the boot of the kernel and the container.

    None where the system does not provide it (not Linux).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks since boot; None if it has ended."""
    try:
        # The fields after the name in brackets, which may contain anything: state, parent, …
        values = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return None if values[0] in "ZX" else values[19]
