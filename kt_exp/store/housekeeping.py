"""What a store holds on disk, what of it may go, and what was left behind by killed processes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from kt_exp.errors import UserError, did_you_mean
from kt_exp.store.lease import abandoned
from kt_exp.store.store import DAMAGED, LEFT_SECONDS, LOCKS, SUFFIX, left_drafts


@dataclass(frozen=True)
class StoredFile:
    """An entry on disk.

    Attributes:
        bytes: its size.
        used: when it was last written or read, in seconds since 1970.
    """

    kind: str
    key: str
    path: Path
    bytes: int
    used: float


def stored_files(root: Path, kinds: Iterable[str] = ()) -> list[StoredFile]:
    """Return the entries of a store by kind and key; of all kinds if `kinds` is empty.

    Raises:
        UserError: there is no store, or it has no such kind.
    """
    if not root.is_dir():
        raise UserError("--root", f"no such folder: {root}",
                        "give the folder of a store, or set KT_EXP_STORE")
    folders = {path.name: path for path in sorted(root.iterdir())
               if path.is_dir() and path.name not in (LOCKS, DAMAGED)}
    for kind in kinds:
        if kind not in folders:
            raise UserError("--kind", f"the store has no '{kind}'", did_you_mean(kind, folders))
    return [found for kind in (list(kinds) or folders) for found in _files(folders[kind])]


def unused(files: Iterable[StoredFile], used: Mapping[str, Set[str]]) -> list[StoredFile]:
    """Return the entries that are not in use.

    Args:
        used: the keys in use, of each kind of which all are known; other kinds count as in use.
    """
    return [file for file in files if file.kind in used and file.key not in used[file.kind]]


def older_than(files: Iterable[StoredFile], seconds: float) -> list[StoredFile]:
    """Return the entries that were neither written nor read for so long."""
    limit = time.time() - seconds
    return [file for file in files if file.used < limit]


def leftovers(root: Path) -> list[Path]:
    """Return what killed processes left: drafts, abandoned locks; and damaged entries."""
    before = time.time() - LEFT_SECONDS
    return [*left_drafts(root, before), *abandoned(root / LOCKS, before),
            *(root / DAMAGED).glob(f"*{SUFFIX}")]


def _files(folder: Path) -> Iterator[StoredFile]:
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        stat = path.stat()
        yield StoredFile(folder.name, path.stem, path, stat.st_size, stat.st_mtime)
