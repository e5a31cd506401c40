"""Checkpoint files: find them on disk or on the hub, read them, compare them with a network."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kt_exp.errors import UserError, is_out_of_memory
from kt_exp.offline import check_fetchable, fails_fast_offline

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# Weights are hardly compressed; zeros shrink a thousandfold.
_MOST_RATIO, _FREE_BYTES = 20, 2**24


def hub_folder(name: str, where: str, patterns: list[str],
               weights: Sequence[str] = ()) -> Path:
    """Return the folder `name`, or the hub repository of that name in the local cache.

    Args:
        where: config key that `name` came from.
        patterns: files of the repository that are wanted (`tokenizer*`).
        weights: alternatives, of which the first one in the repository is fetched as well.

    Raises:
        UserError: no such folder, and no such repository in the cache or on the hub.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if not _HUB_ID.fullmatch(name):
        raise UserError(where, f"no such folder: {name}", "give a folder, or a hub id (ORG/REPO)")
    try:
        with fails_fast_offline(True):
            folder = Path(snapshot_download(name, allow_patterns=patterns))
            if weights:
                _fetch_first(name, weights)
            return folder
    except Exception as error:
        files = ", ".join([*patterns, *weights[:1]])
        raise UserError(where, f"'{name}' is no folder here, is not in the hub's cache, and cannot "
                        "be fetched", f"copy its files ({files}) into a folder and give that: "
                        f"{where}=/path/to/folder") from error


def check_hub_folder(name: str, where: str, patterns: list[str],
                     weights: Sequence[str] = ()) -> Path | None:
    """Return the folder `name`; None if it is a hub repository in the cache or on the hub.

    Nothing is downloaded. The arguments are those of `hub_folder`.

    Raises:
        UserError: no such folder, or a repository that is not in the cache, without a network.
    """
    if Path(name).expanduser().is_dir() or not _HUB_ID.fullmatch(name):
        return hub_folder(name, where, patterns, weights)
    check_fetchable(lambda: hub_folder(name, where, patterns, weights))
    return None


def _fetch_first(name: str, files: Sequence[str]) -> None:
    *others, last = files
    for file in others:
        with suppress(EntryNotFoundError):
            hf_hub_download(name, file)
            return
    hf_hub_download(name, last)


def read_state(path: Path, where: str, content: BytesIO | None = None) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a pickle that holds nothing else.

    Args:
        where: config key that `path` came from.
        content: the file's content, if it was read from an archive.

    Raises:
        UserError: a file that is damaged, or that holds more than tensors.
    """
    refuse_bomb(content or path, path, where)
    try:
        state = load_file(path) if path.suffix == ".safetensors" else \
            torch.load(content or path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(where, f"{path} is damaged, or holds more than tensors, which loading "
                        "could run as code", "give a file of nothing but tensors") from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, MemoryError) as error:
        if is_out_of_memory(error):
            raise no_memory(where, path) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(where, f"{path} cannot be loaded ({reason})",
                        "it may be damaged or cut short") from error
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise UserError(where, f"{path} is no checkpoint: it is not a dict of tensors")
    return state


def refuse_bomb(archive: BytesIO | Path, path: Path, where: str) -> None:
    """Check that a zip, as torch.save writes it, does not fill the memory when it is unpacked.

    Raises:
        UserError: it would unpack to a multiple of its size.
    """
    if not zipfile.is_zipfile(archive):
        return
    try:
        with zipfile.ZipFile(archive) as members:
            sizes = [(member.file_size, member.compress_size) for member in members.infolist()]
    except zipfile.BadZipFile:
        return  # The loader of the weights says that they are damaged.
    finally:
        if isinstance(archive, BytesIO):
            archive.seek(0)
    unpacked, packed = (sum(each) for each in zip(*sizes, strict=True)) if sizes else (0, 0)
    if unpacked > _MOST_RATIO * packed + _FREE_BYTES:
        raise UserError(where, f"{path} would be unpacked to {unpacked / 2**20:,.0f} MiB, which "
                        "weights never are", "give a checkpoint")


def no_memory(where: str, what: str | Path) -> UserError:
    """Return the error for weights that do not fit into memory."""
    return UserError(where, f"not enough memory to load {what}",
                     "end other programs, raise the limit of memory, or choose a smaller model")


def first_mismatch(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> str | None:
    """Return the first difference of a checkpoint from a network's state in words, or None."""
    for key in _in_order(wanted, found):
        if key not in found:
            return f"it lacks '{key}'"
        if key not in wanted:
            return f"the model has no '{key}'"
        if wanted[key].shape != found[key].shape:
            return (f"'{key}' is {list(found[key].shape)} in the checkpoint, "
                    f"{list(wanted[key].shape)} in the model")
    return None


def _in_order(wanted: Iterable[str], found: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*wanted, *found]))
