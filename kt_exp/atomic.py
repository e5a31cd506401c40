"""Atomic writing of files, and their permissions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


DRAFT = ".draft"
_OLDER_DRAFTS = (".result.json.*", ".progress.json.*")  # as kt_exp 0.1.0 named them


def clear_drafts(folder: Path) -> None:
    """Remove what processes killed while they wrote left in `folder` and below."""
    for pattern in (f".*{DRAFT}", *_OLDER_DRAFTS):
        for draft in folder.rglob(pattern):
            with suppress(OSError):
                draft.unlink()


def write_atomically(path: Path, text: str) -> None:
    """Replace the content of `path` by `text`; a crash leaves the old file unchanged.

    File names that are not UTF-8 are written as escapes (`\\udcff`), which JSON reads back.
    """
    replace(path, lambda draft: draft.write_text(text, encoding="utf-8",
                                                 errors="backslashreplace"))


def save_tensors(path: Path, tensors: Mapping[str, Tensor],
                 metadata: dict[str, str] | None = None) -> None:
    """Replace `path` by a safetensors file with copies of `tensors`; else as `write_atomically`."""
    from safetensors.torch import save_file

    on_cpu = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    replace(path, lambda draft: save_file(on_cpu, draft, metadata))


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Replace `path` by the file that `write` makes, with the permissions of any new file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=DRAFT)
    os.close(handle)
    draft = Path(name)
    try:
        write(draft)
        # safetensors replaces the file, so this opens the one that is there now.
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        set_usual_mode(draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def set_usual_mode(path: Path) -> None:
    """Give a new file the permissions that the umask asks for.

    Temporary files, and with them those that safetensors writes, are for their owner alone.
    """
    os.chmod(path, 0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
