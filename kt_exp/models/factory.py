"""Build the model of the config on the device of the config."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from kt_exp.errors import UserError
from kt_exp.models.protocol import Model


def pick_device(wanted: str) -> torch.device:
    """Return the torch device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: no such device on this machine.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise UserError("device", f"'{wanted}' is no device",
                        "give auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError("device", f"'{wanted}' is not supported", "give auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError("device", f"'{wanted}' asked for, but torch {torch.__version__} sees "
                        f"{count} CUDA devices", "give device=auto or device=cpu")
    return device


class ModelCache:
    """Loads models, and returns the last one again while the config is equal.

    Callers leave a model as they found it (`finetune.train.restored`) or `clear` the cache.
    """

    def __init__(self) -> None:
        self._last: tuple[object, Model] | None = None

    def load(self, spec: object, device: torch.device, precision: str) -> Model:
        """As `load_model`; loads again if files that the config names have changed."""
        wanted = (spec, device, precision, list(_stamps(spec)))
        if self._last is None or self._last[0] != wanted:
            self.clear()  # The device's memory may not hold two models.
            self._last = (wanted, load_model(spec, device, precision))
        return self._last[1]

    def clear(self) -> None:
        """Forget the model: a failed job may have left it in any state."""
        self._last = None


def _stamps(spec: object) -> Iterator[tuple[str, int, int]]:
    """Yield path, size and modification time of a config's files, and of those in its folders."""
    for value in vars(spec).values() if hasattr(spec, "__dict__") else ():
        path = Path(value.removeprefix("local-dir:")) if isinstance(value, str) else None
        if value and path and path.exists():
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                stat = file.stat()
                yield str(file), stat.st_size, stat.st_mtime_ns


def load_model(spec: object, device: torch.device, precision: str) -> Model:
    """Return the model of a `model` plug-in: any dataclass with `load(device, precision)`.

    Raises:
        UserError: the plug-in has no `load`, or cannot find its weights.
    """
    load = getattr(spec, "load", None)
    if load is None:
        raise UserError("model._target_", f"{type(spec).__name__} has no load(device, precision)",
                        "see docs/models.md for what a model plug-in offers")
    return load(device, precision)


def check_files(spec: object) -> None:
    """Check that a `model` plug-in finds its weights, without loading them.

    Plug-ins may have a method `check_files()` for it; others are checked when they load.

    Raises:
        UserError: the weights are not on this machine, and cannot be fetched.
    """
    check = getattr(spec, "check_files", None)
    if check is not None:
        check()
