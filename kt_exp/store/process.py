"""Whether a process that wrote a file of the store has ended, as far as this machine can tell."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def identity() -> dict[str, Any]:
    """Return what others need to know of this process, as JSON: see `has_ended`."""
    return {"pid": os.getpid(), "started": _started(os.getpid()), "machine": _machine(),
            "host": os.uname().nodename, "hardware": _hardware()}


def has_ended(process: Mapping[str, Any]) -> bool:
    """Return whether a process of which `identity` was written is known to have ended.

    Known are processes of this machine, and those from before it was started again. Of a process
    elsewhere, or in another container, nothing is known.
    """
    try:
        pid, started, machine = int(process["pid"]), process["started"], process["machine"]
    except (ValueError, KeyError, TypeError):
        return False
    here = _machine()
    if not isinstance(machine, str) or here is None:
        return False
    if machine == here:
        return _started(pid) != started
    same_host = _hardware() and (process.get("host"), process.get("hardware")) == (
        os.uname().nodename, _hardware())
    return bool(same_host) and machine.split()[:1] != here.split()[:1]


def tag() -> str:
    """Return the identity of this process for the name of a file: see `tagged_has_ended`."""
    return f"{os.getpid()}-{_started(os.getpid())}-{_short(_machine())}"


def tagged_has_ended(name: str) -> bool:
    """Return whether the process whose `tag` begins the file name is known to have ended."""
    pid, _, rest = name.partition("-")
    started, _, rest = rest.partition("-")
    here = _short(_machine())
    return here is not None and pid.isdigit() and rest.startswith(here) \
        and _started(int(pid)) != started


def _machine() -> str | None:
    """Return an id of the scope of process ids: the boot of the kernel and the container.

    None where the system does not provide it (not Linux).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _hardware() -> str | None:
    """Return an id of the installed system that outlives a restart; None if there is none."""
    try:
        return _short(Path("/etc/machine-id").read_text(encoding="ascii").strip() or None)
    except (OSError, UnicodeDecodeError):
        return None


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks since boot; None if it has ended."""
    try:
        # The fields after the name in brackets, which may contain anything: state, parent, …
        values = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return None if values[0] in "ZX" else values[19]


def _short(text: str | None) -> str | None:
    return hashlib.sha256(text.encode()).hexdigest()[:8] if text else None
