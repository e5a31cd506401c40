"""margins.safetensors: the margins of a run's images, for computing intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from kt_exp.atomic import replace
from kt_exp.errors import UserError
from kt_exp.results.gains import PhaseMargins
from kt_exp.results.outcome import Outcome

FILE_NAME = "margins.safetensors"
FIELDS = ("target", "known", "right")


def write_margins(outcomes: Sequence[Outcome], folder: Path) -> Path | None:
    """Write the margins of all outcomes into `folder`; return the file, or None without any."""
    arrays = {
        f"{outcome.metrics[0].phase}/{outcome.metrics[0].concept}/{name}":
            getattr(outcome.margins, name)
        for outcome in outcomes if outcome.margins is not None for name in FIELDS
    }
    if not arrays:
        return None
    replace(folder / FILE_NAME, lambda draft: save_file(arrays, draft))
    return folder / FILE_NAME


def read_margins(folder: Path) -> dict[tuple[str, str], PhaseMargins]:
    """Return the margins of a run by phase and concept; empty if it has none.

    Raises:
        UserError: the file cannot be read.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(str(path), f"cannot be read: {error}", "run the job again") from error
    keys = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
    found = {}
    for key in keys:
        phase, _, concept = key.partition("/")
        missing = [name for name in FIELDS if f"{key}/{name}" not in arrays]
        if missing:
            raise UserError(str(path), f"lacks {key}/{missing[0]}", "run the job again")
        found[phase, concept] = PhaseMargins(*(arrays[f"{key}/{name}"] for name in FIELDS))
    return found
