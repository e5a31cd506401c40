"""Teach a pre-trained vision-language model a new visual concept from its description alone.

The functions below are the Python interface to what `kt-exp` does on the command line. They are
imported on first use, so that `import kt_exp` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kt_exp.api import compose as compose
    from kt_exp.api import load_model as load_model
    from kt_exp.api import read_run as read_run
    from kt_exp.api import read_runs as read_runs
    from kt_exp.api import run as run
    from kt_exp.errors import UserError as UserError
    from kt_exp.results.record import RunRecord as RunRecord
    from kt_exp.teaching import Taught as Taught
    from kt_exp.teaching import teach as teach

_HOMES = {
    "RunRecord": "kt_exp.results.record",
    "Taught": "kt_exp.teaching",
    "UserError": "kt_exp.errors",
    "compose": "kt_exp.api",
    "load_model": "kt_exp.api",
    "read_run": "kt_exp.api",
    "read_runs": "kt_exp.api",
    "run": "kt_exp.api",
    "teach": "kt_exp.teaching",
}

__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kt_exp' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
