"""Locks that work on any shared file system and that no dead process can keep.

A lock is a file that only one process can create, and that says who did. Its holder touches it
every few seconds. Who waits takes it over where the holder is gone: at once if that was a process
of the same machine, or else when the file was not touched for two minutes. Nothing relies on
`flock`, which network file systems often lack, nor on clocks that agree. A `KeyboardInterrupt`
removes the file wherever it comes, also while the lock is being taken or given back.

Should a lock be taken over from a process that was only suspended, both compute the same: results
are written whole and are the same, so that costs time alone.
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
# Well above TOUCH_SECONDS, and above the minute for which NFS may show an old time of a file.
STALE_SECONDS = 120.0
_POLL_SECONDS = 0.5


@contextmanager
def hold(paths: Iterable[Path], on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the locks `paths` while the block runs; they are taken in the order given.

    Calls `on_wait` once for each lock that it has to wait for.

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
        _release(leases)  # It may have come before the first call had begun.
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
    with ExitStack() as each:  # The others, too, if one raises.
        for lease in leases:
            each.callback(lease.release)


class Lease:
    """One process's claim to the lock file `path`, held or not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owner = json.dumps({"token": uuid.uuid4().hex, **_process(os.getpid())})
        self._stop = threading.Event()
        self._seen: tuple[str, float] | None = None  # the other's lock as it was last seen …
        self._since = 0.0  # … and since when it looks like that

    def acquire(self) -> bool:
        """Take the lock if it is free or its holder is gone; tell whether it is held now."""
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
        """Give the lock back, if it is held and was not taken over meanwhile."""
        with interrupts.deferred():
            self._stop.set()
            self._remove(self._owner)

    def _create(self) -> bool:
        # Interrupted in between, it would leave a file that does not name its owner.
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
            # Opened, since NFS then asks the server how the file is now.
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


def _is_dead(owner: str) -> bool:
    """Tell whether the holder was a process of this machine that is no more."""
    try:
        holder: dict[str, Any] = json.loads(owner)
        pid, machine = int(holder["pid"]), holder["machine"]
    except (ValueError, KeyError, TypeError):
        return False  # It is just being written.
    if machine is None or machine != _machine():
        return False
    return _started(pid) != holder["started"]


def _process(pid: int) -> dict[str, Any]:
    return {"pid": pid, "started": _started(pid), "machine": _machine(),
            "host": os.uname().nodename}


def _machine() -> str | None:
    """Where process ids mean the same: a boot of a kernel, and a container there.

    None where the system (not Linux) does not tell.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process was started, in ticks since the boot; None for one that has ended."""
    try:
        # After the name in brackets, which may hold anything: state, parent, …
        values = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return None if values[0] in "ZX" else values[19]
