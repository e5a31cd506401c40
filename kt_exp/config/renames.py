"""Renamed and removed names of earlier versions, in configs and on command lines.

A name is a config key (`inversion.speed.packed`), a value of one (`finetune.loss=bank`), an option
of a group (`model=old`) or a command-line option (`--across`).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from kt_exp.errors import UserError

RENAMED = {  # former name → current name
    "finetune.loss=bank": "finetune.loss=class_ce",
    "--across": "--pivot",
}
REMOVED = {  # former name → why, and what to do instead
    "inversion.speed.packed": "it gained little, and on few CPUs; leave it out",
}


def former_name(name: str) -> UserError | None:
    """Return the error for a renamed or removed name; None for any other."""
    if name in RENAMED:
        return UserError(name, "was renamed", f"write {RENAMED[name]}")
    if name in REMOVED:
        return UserError(name, "was removed", REMOVED[name])
    return None


def with_current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of an earlier run with current keys and values, without removed keys."""
    updated = deepcopy(dict(config))
    for former, current in RENAMED.items():
        path, _, value = former.partition("=")
        section, key = _section(updated, path), path.rpartition(".")[2]
        if value and section.get(key) == value:
            section[key] = current.partition("=")[2]
        elif not value and key in section:
            _section(updated, current)[current.rpartition(".")[2]] = section.pop(key)
    for path in REMOVED:
        _section(updated, path).pop(path.rpartition(".")[2], None)
    return updated


def _section(config: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the section that holds the last key of `path`; an empty one if there is none."""
    for name in path.split(".")[:-1]:
        inner = config.get(name)
        config = inner if isinstance(inner, dict) else {}
    return config
