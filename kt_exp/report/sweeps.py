"""The jobs listed by a sweep's multirun.yaml: one per combination of its overrides."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

MULTIRUN = "multirun.yaml"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def planned(sweep: Path) -> list[tuple[Path, list[str]]]:
    """Return the folder and the overrides of each job of the sweep in `sweep`, in order.

    If the jobs' folders are not named by number, the folder is the sweep's. The list is empty if
    the file does not determine the jobs, as with an adaptive sweeper.
    """
    hydra = (read_yaml(sweep / MULTIRUN) or {}).get("hydra") or {}
    try:
        combinations = _combinations(hydra)
    except Exception:  # Hydra's parser may raise anything; the existing runs still count
        return []
    numbered = (hydra.get("sweep") or {}).get("subdir") == "${hydra.job.num}"
    return [(sweep / str(number) if numbered else sweep, overrides)
            for number, overrides in enumerate(combinations)]


def with_overrides(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `config` with the values of `overrides` for keys that it has."""
    changed = copy.deepcopy(dict(config))
    for override in overrides:
        key, _, text = override.lstrip("+").partition("=")
        *parents, last = key.split(".")
        section: Any = changed
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        # If the config has a section here, the override is an option of a config group.
        if isinstance(section, dict) and last in section and not isinstance(section[last], dict):
            section[last] = _value(text)
    return changed


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file; None if it does not exist or cannot be read."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _combinations(hydra: Mapping[str, Any]) -> list[list[str]]:
    # Imported here: it takes a quarter of a second, and only sweeps need it.
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    sweeper = hydra.get("sweeper") or {}
    if not str(sweeper.get("_target_", "")).endswith("BasicSweeper"):
        return []
    given = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    given += (hydra.get("overrides") or {}).get("task") or []
    [jobs] = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(given), None)
    return [[override for override in job if not override.startswith("hydra.")] for job in jobs]


def _value(text: str) -> Any:
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return text
    try:
        return float(value) if isinstance(value, str) else value  # YAML takes 1e-5 for text
    except ValueError:
        return value
