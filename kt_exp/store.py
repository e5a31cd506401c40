"""Stage results by signature: computed once, shared between runs, verified when read.

An entry is a folder `<root>/<kind>/<signature>/` of safetensors and JSON files with a manifest of
their checksums. It appears by one rename, so it is either whole or absent. A lock that dies with
its process keeps two runs from computing the same entry at once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kt_exp.errors import UserError

log = logging.getLogger(__name__)

_MANIFEST, _RECORD, _TENSORS = "manifest.json", "record.json", "tensors.safetensors"


def signature(inputs: Any) -> str:
    """Return a hash of everything that can change a result (any JSON-serialisable structure)."""
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Entry:
    """A stored result: a JSON record and named tensors (on the CPU)."""

    record: dict[str, Any]
    tensors: dict[str, Tensor]


class Store:
    """Results under one root folder, by kind (`inversion`, `finetune`, …) and signature.

    Args:
        root: folder, created if absent.

    Raises:
        UserError: the folder cannot be made or written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).expanduser()
        probe = self.root / f".write-{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError("store.root", f"cannot write to {self.root} ({error.strerror})",
                            "name a folder you may write to") from error

    def fetch(self, kind: str, key: str) -> Entry | None:
        """Return an entry, or None where there is none.

        An entry whose files do not match their checksums is set aside under `damaged/`, said so,
        and counts as absent: it is computed again.
        """
        folder = self._folder(kind, key)
        if not folder.is_dir():
            return None
        try:
            return _read(folder)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            aside = self.root / "damaged" / f"{kind}-{key}-{uuid.uuid4().hex[:8]}"
            aside.parent.mkdir(exist_ok=True)
            os.replace(folder, aside)
            log.warning("Damaged entry in the store (%s), set aside as %s; computing it again.",
                        error, aside)
            return None

    def commit(self, kind: str, key: str, record: Mapping[str, Any],
               tensors: Mapping[str, Tensor] | None = None) -> Entry:
        """Write an entry, whole or not at all, in place of any of the same key; return it."""
        folder = self._folder(kind, key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = folder.with_name(f".{key}-{uuid.uuid4().hex}")
        try:
            entry = _write(draft, record, tensors or {})
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(draft, folder)
            _sync(folder.parent)
        except OSError as error:
            raise UserError("store.root", f"cannot write to {folder} ({error.strerror})",
                            "free some space, or name another folder") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return entry

    def has(self, kind: str, key: str) -> bool:
        """Tell whether an entry is there, without reading it."""
        return self._folder(kind, key).is_dir()

    def discard(self, kind: str, key: str) -> None:
        """Remove an entry, if it is there."""
        shutil.rmtree(self._folder(kind, key), ignore_errors=True)

    def keys(self, kind: str) -> list[str]:
        """Return the keys of all entries of a kind."""
        folder = self.root / kind
        return sorted(p.name for p in folder.iterdir() if p.name[0] != ".") \
            if folder.is_dir() else []

    @contextmanager
    def lock(self, kind: str, keys: Iterable[str]) -> Iterator[None]:
        """Hold the locks of all `keys`; waits for other processes, which release them if they die.

        Locks are taken in sorted order, so that two runs never wait for each other.
        """
        folder = self.root / "locks"
        folder.mkdir(exist_ok=True)
        with ExitStack() as held:
            for key in sorted(set(keys)):
                lock = FileLock(folder / f"{kind}-{key}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    log.info("Waiting for another run that is computing the same %s.", kind)
                    lock.acquire()
                held.callback(lock.release)
            yield

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key


def _write(folder: Path, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Entry:
    folder.mkdir(parents=True)
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(kept, folder / _TENSORS)
    (folder / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    digests = {name: _digest(folder / name) for name in (_TENSORS, _RECORD)}
    (folder / _MANIFEST).write_text(json.dumps(digests), encoding="utf-8")
    for name in (_TENSORS, _RECORD, _MANIFEST):
        _sync(folder / name)
    return Entry(dict(record), kept)


def _read(folder: Path) -> Entry:
    digests = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    for name in (_TENSORS, _RECORD):
        if _digest(folder / name) != digests[name]:
            raise ValueError(f"checksum of {folder / name} does not match")
    record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    return Entry(record, load_file(folder / _TENSORS))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
