"""Stage results by signature: computed once, shared between runs, verified when read.

An entry is one file, `<root>/<kind>/<signature>.safetensors`. It holds tensors; its metadata has a
JSON record and a checksum of both. Entries are created and replaced by one rename, so a reader
never sees a partial one. Locks (see lease.py) keep two runs from computing the same entry at the
same time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kt_exp.atomic import set_usual_mode
from kt_exp.errors import UserError
from kt_exp.store.lease import DRAFT, clear_abandoned, hold
from kt_exp.store.lease import SUFFIX as LEASE
from kt_exp.store.process import tag, tagged_has_ended

log = logging.getLogger(__name__)

SUFFIX = ".safetensors"
LOCKS, DAMAGED = "locks", "damaged"
# No write takes this long, and no living process leaves its locks untouched for so long.
LEFT_SECONDS = 24 * 3600


def signature(inputs: Any) -> str:
    """Return a hash of everything that can change a result (any JSON-serialisable structure)."""
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Entry:
    """A stored result: a JSON record and named tensors (on the CPU).

    `found` says whether it was read from the store rather than just written to it. Tensors that
    were read are memory-mapped, so the system can reclaim their memory.
    """

    record: dict[str, Any]
    tensors: dict[str, Tensor]
    found: bool = False


class Store:
    """Results under one root folder, by kind (`inversion`, `finetune`, …) and signature.

    Args:
        root: folder, created if absent.
        pixel_bytes: size of the largest image set whose pixels are cached (benchmarks/pixels.py).
        create: whether to create the folder and check that it can be written to.

    Raises:
        UserError: the folder cannot be created or written to.
    """

    def __init__(self, root: Path, pixel_bytes: float = 0, create: bool = True) -> None:
        self.root = Path(root).expanduser()
        self.pixel_bytes = pixel_bytes
        if not create:
            return
        probe = self.root / f".write-{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            now = probe.stat().st_mtime  # by the clock of the file system
            probe.unlink()
        except OSError as error:
            raise UserError("store.root", f"cannot write to {self.root} ({error.strerror})",
                            "name a folder you may write to") from error
        _clear_leftovers(self.root, now - LEFT_SECONDS)

    def fetch(self, kind: str, key: str) -> Entry | None:
        """Return an entry; None if there is none.

        An entry that does not match its checksum is moved to `damaged/` with a warning, and counts
        as absent.

        Raises:
            UserError: the file exists but cannot be opened.
        """
        path = self._path(kind, key)
        try:
            entry = _read(path)
            with suppress(OSError):  # a store that may only be read
                os.utime(path)  # the time of the last use, for `housekeeping`
            return entry
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError("store.root", f"cannot read {path} ({error.strerror or error})",
                            "make it readable, or name another folder") from error
        except (ValueError, KeyError, SafetensorError) as error:
            self._set_aside(path, f"{kind}-{key}", error)
            return None

    def commit(self, kind: str, key: str, record: Mapping[str, Any],
               tensors: Mapping[str, Tensor] | None = None) -> Entry:
        """Write an entry atomically, replacing any with the same key; return it.

        Raises:
            UserError: no space, or no permission to write.
        """
        path = self._path(kind, key)
        draft = path.with_name(f"{tag()}-{uuid.uuid4().hex}{DRAFT}")
        on_cpu = {name: t.detach().cpu().contiguous() for name, t in (tensors or {}).items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(draft, json.dumps(record), on_cpu)
            os.replace(draft, path)
            _sync(path.parent)
        except (OSError, SafetensorError) as error:
            raise UserError("store.root", f"cannot write {path} ({error})",
                            "free some space, or name another folder") from error
        finally:
            draft.unlink(missing_ok=True)
        return Entry(dict(record), on_cpu)

    def get_or_compute(self, kind: str, key: str, compute: Callable[[], Entry]) -> Entry:
        """Return the entry of `key`; if there is none, compute and store it.

        The key is locked meanwhile, so that no other run computes the same entry.

        Raises:
            UserError: the store cannot be read or written.
        """
        with self.lock(kind, [key]):
            if (entry := self.fetch(kind, key)) is not None:
                return entry
            made = compute()
            return self.commit(kind, key, made.record, made.tensors)

    def has(self, kind: str, key: str) -> bool:
        """Return whether an entry exists, without reading it."""
        return self._path(kind, key).is_file()

    def check(self, kind: str, key: str) -> bool | None:
        """Return whether an entry matches its checksum; None if there is none.

        One that does not is set aside, as by `fetch`. This is no use of the entry.
        """
        path = self._path(kind, key)
        try:
            used = path.stat()
        except FileNotFoundError:
            return None
        found = self.fetch(kind, key) is not None
        if found:
            with suppress(OSError):
                os.utime(path, ns=(used.st_atime_ns, used.st_mtime_ns))
        return found

    def discard(self, kind: str, key: str) -> None:
        """Remove an entry, if it exists."""
        self._path(kind, key).unlink(missing_ok=True)

    def keys(self, kind: str) -> list[str]:
        """Return the keys of all entries of a kind."""
        return sorted(path.stem for path in (self.root / kind).glob(f"*{SUFFIX}"))

    def lock(self, kind: str, keys: Iterable[str]) -> AbstractContextManager[None]:
        """Hold the locks of all `keys` in a `with` block.

        Entering it waits for other processes, and takes over the locks of dead ones. Locks are
        acquired in sorted order, so that two runs cannot deadlock.

        Raises:
            UserError: a lock cannot be written.
        """
        paths = [self.root / LOCKS / f"{kind}-{key}{LEASE}" for key in sorted(set(keys))]
        return hold(paths, lambda: log.info(
            "Waiting for another run that is computing the same %s.", kind))

    def _path(self, kind: str, key: str) -> Path:
        return self.root / kind / f"{key}{SUFFIX}"

    def _set_aside(self, path: Path, name: str, error: Exception) -> None:
        aside = self.root / DAMAGED / f"{name}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        aside.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # Another process has just done so.
            os.replace(path, aside)
        log.warning("Damaged entry in the store (%s), set aside as %s; computing it again.",
                    error, aside)


def _write(path: Path, record: str, tensors: Mapping[str, Tensor]) -> None:
    save_file(dict(tensors), path, {"record": record, "sha256": _digest(record, tensors)})
    set_usual_mode(path)
    _sync(path)


def _read(path: Path) -> Entry:
    with path.open("rb"), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _digest(metadata["record"], tensors) != metadata["sha256"]:
        raise ValueError("its checksum does not match")
    return Entry(json.loads(metadata["record"]), tensors, found=True)


def _digest(record: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(record.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def left_drafts(root: Path, before: float) -> Iterator[Path]:
    """Yield the drafts of killed processes, and those that were written before a time."""
    for draft in [*root.glob(f"*/*{DRAFT}"), *root.glob(".write-*")]:
        with suppress(OSError):  # Another process has just removed it, or it is not ours.
            if tagged_has_ended(draft.name) or draft.stat().st_mtime < before:
                yield draft


def _clear_leftovers(root: Path, before: float) -> None:
    for draft in left_drafts(root, before):
        with suppress(OSError):
                draft.unlink()
    clear_abandoned(root / LOCKS, before)
