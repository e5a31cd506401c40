"""Declarations of config fields, and the check of values against them.

Settings dataclasses declare their fields with `choice`, `number` or plain types, without defaults:
defaults are stated only in the YAML files under conf/. `check` raises a `UserError` that names the
config key of the first invalid value.
"""

from __future__ import annotations

import math
from dataclasses import field, fields, is_dataclass
from typing import Any

from kt_exp.config.renames import former_name
from kt_exp.errors import UserError, did_you_mean

_LARGEST_INT = 2**63 - 1  # of torch and NumPy


def choice(*options: str) -> Any:
    """Declare a string field that takes one of `options`."""
    return field(metadata={"options": options})


def number(*, minimum: float | None = None, above: float | None = None,
           maximum: float | None = None, words: tuple[str, ...] = (),
           whole: bool = False) -> Any:
    """Declare a number, or a list of numbers, with its range; `words` are also allowed.

    A field that allows words is annotated `Any`, since OmegaConf cannot merge into unions. `whole`
    then declares that its numbers are integers.
    """
    return field(
        metadata={"minimum": minimum, "above": above, "maximum": maximum, "words": words,
                  "whole": whole}
    )


def check(settings: Any, where: str) -> None:
    """Check a settings dataclass, including nested ones, against its declarations.

    A dataclass may have a method `problems()`, which yields `(key, problem, remedy)` for conditions
    on several fields.

    Raises:
        UserError: a value is invalid; the error names the key as `where.field`.
    """
    for declared in fields(settings):
        key, value = f"{where}.{declared.name}".lstrip("."), getattr(settings, declared.name)
        if is_dataclass(value):
            check(value, key)
        elif declared.type in ("list[str]", list[str]):
            _check_texts(key, value)
        elif "options" in declared.metadata:
            _check_choice(key, value, declared.metadata["options"])
        elif "minimum" in declared.metadata:
            for item in value if isinstance(value, list) else [value]:
                if item is None and isinstance(value, list):
                    raise UserError(key, "null is not a number", "leave it out")
                _check_number(key, item, declared.metadata)
    for name, problem, remedy in getattr(settings, "problems", tuple)():
        raise UserError(f"{where}.{name}".lstrip("."), problem, remedy)


def _check_texts(key: str, values: Any) -> None:
    # OmegaConf lets a section pass where a text is declared.
    for value in values or ():
        if not isinstance(value, str):
            raise UserError(key, f"{value} is not text", "put it in quotes")


def _check_choice(key: str, value: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise former_name(f"{key}={value}") or UserError(
            key, f"'{value}' is not an option", did_you_mean(value, options))


def _check_number(key: str, value: Any, limits: Any) -> None:
    if value is None or value in limits["words"]:
        return
    allowed = _range_in_words(limits)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(key, f"'{value}' is not a number", f"give {allowed}")
    low, above, high = limits["minimum"], limits["above"], limits["maximum"]
    outside = (
        (isinstance(value, int) and abs(value) > _LARGEST_INT)
        or not math.isfinite(value)
        or (limits["whole"] and value != int(value))
        or (low is not None and value < low)
        or (above is not None and value <= above)
        or (high is not None and value > high)
    )
    if outside:
        raise UserError(key, f"{value} is out of range", f"give {allowed}")


def _range_in_words(limits: Any) -> str:
    parts = [
        f"{word} {limits[name]:g}"
        for name, word in (("above", "above"), ("minimum", "at least"), ("maximum", "at most"))
        if limits[name] is not None
    ]
    words = "".join(f" or '{word}'" for word in limits["words"])
    kind = "a whole number " if limits["whole"] else "a number "
    return (kind + " and ".join(parts)).strip() + words
