"""Refusal of single runs that were meant as multiruns: the option -m was forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from kt_exp.errors import UserError
from kt_exp.runs.overrides import given_keys

_IN_THIS_PROCESS = ("in_process", "basic")


def check_single_run() -> None:
    """Check that a job that is no part of a multirun was not meant to be one.

    Raises:
        UserError: it has a launcher for multiruns, or a config that sweeps keys which the command
            line does not fix.
    """
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return
    launcher = hydra.runtime.choices["hydra/launcher"]
    if launcher not in _IN_THIS_PROCESS:
        raise UserError("hydra/launcher", f"{launcher} launches the jobs of multiruns", "add -m")
    fixed = given_keys()
    swept = _swept(OmegaConf.to_container(hydra.sweeper).get("params"))  # type: ignore[union-attr]
    if left := [key for key in swept if key not in fixed]:
        chosen = hydra.runtime.choices.get("experiment")
        where = f"experiment={chosen}" if chosen else "hydra.sweeper.params"
        raise UserError(where, f"this is a sweep (over {', '.join(left)})",
                        f"add -m, or fix what is swept: {left[0]}=…")


def _swept(params: Mapping[str, Any] | None) -> list[str]:
    """Return the keys that a sweeper gives several values."""
    parser = OverridesParser.create()
    swept = []
    for key, values in (params or {}).items():
        try:
            if parser.parse_override(f"{key}={values}").is_sweep_override():
                swept.append(key)
        except HydraException:
            continue  # of another sweeper's own grammar
    return swept
