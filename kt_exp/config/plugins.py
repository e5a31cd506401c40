"""Builds plug-ins from config nodes with a `_target_`.

A plug-in (model, benchmark, tracker) is a dataclass whose fields are its config keys. Your own can
be anywhere on the Python path, and is treated exactly like those shipped.
"""

from __future__ import annotations

import importlib
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kt_exp.config.checks import check
from kt_exp.config.renames import former_name
from kt_exp.errors import UserError, did_you_mean


def build(node: DictConfig, where: str) -> Any:
    """Return an instance of the dataclass that `node._target_` names, filled from `node`.

    Raises:
        UserError: `_target_` is missing, cannot be imported or is no dataclass; a key is unknown or
            missing; or a value has the wrong type or is out of range.
    """
    target = node.get("_target_")
    if not target:
        raise UserError(f"{where}._target_", "missing", "name a dataclass: 'package.module.Class'")
    if not isinstance(target, str):
        raise UserError(f"{where}._target_", f"'{target}' is no text",
                        "name a dataclass: 'package.module.Class'")
    kind = _import(target, f"{where}._target_")
    values = _resolved(node, where)
    _check_keys(kind, values, where)
    try:
        instance = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))
    except OmegaConfBaseException as error:
        key = f"{where}.{error.full_key}" if error.full_key else where
        raise UserError(key, str(error.msg or error).splitlines()[0]) from error
    except OverflowError as error:  # an integer that no float can hold
        raise UserError(where, str(error).splitlines()[0], "give a smaller number") from error
    check(instance, where)
    return instance


def _resolved(node: DictConfig, where: str) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(error.full_key or where, str(error).splitlines()[0]) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "_target_"}


def _check_keys(kind: type, values: dict[str, Any], where: str) -> None:
    known = [declared for declared in fields(kind) if declared.init]
    for key in values:
        if key not in {declared.name for declared in known}:
            raise former_name(f"{where}.{key}") or UserError(
                f"{where}.{key}", f"{kind.__name__} has no such key",
                did_you_mean(key, [declared.name for declared in known]))
    for declared in known:
        has_default = declared.default is not MISSING or declared.default_factory is not MISSING
        if values.get(declared.name, "???") == "???" and not has_default:
            key = f"{where}.{declared.name}"
            raise UserError(key, "missing", f"set it: {key}=…")


def _import(target: str, where: str) -> type:
    module_name, _, name = target.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise former_name(f"{where}={target}") or UserError(
            where, f"cannot import '{target}': {error}",
            "name a dataclass: 'package.module.Class'") from error
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise UserError(where, f"'{target}' is not a dataclass", "decorate it with @dataclass")
    return kind
