"""Errors of writing to a run folder, as errors of the user."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from kt_exp.errors import UserError


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Write files of a run in this block.

    Raises:
        UserError: a file could not be written.
    """
    try:
        yield
    except OSError as error:
        name = Path(error.filename).name if error.filename else ""
        raise _refusal(folder, name, error.strerror or str(error)) from error
    except SafetensorError as error:  # "…: I/O error: No space left on device (os error 28)"
        found = re.search(r"I/O error: (.+?) \(os error", str(error))
        raise _refusal(folder, "", found[1] if found else str(error)) from error
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error):  # torch.save, which does not say why
            raise
        raise _refusal(folder, "", "torch.save failed") from error


def _refusal(folder: Path, name: str, reason: str) -> UserError:
    return UserError(str(folder), f"cannot write {name or 'to it'} ({reason})",
                     "free some space, or name a folder you may write to (hydra.run.dir)")
