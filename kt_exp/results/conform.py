"""Whether plain data has the types that dataclasses declare: records come from files."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

_LARGEST = sys.float_info.max


def mismatches(value: Any, kind: Any, where: str) -> Iterator[str]:
    """Yield each place where `value` is not of the type `kind`: "metrics[3].total is 'x'".

    Args:
        kind: a dataclass, or an annotation of one's field: `list`, `dict`, `tuple`, a union, a
            literal, a class. A float is finite, and may be an int; a bool is no number.
        where: the name of `value`, for the places.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if origin in (Union, types.UnionType):
        if all(next(mismatches(value, option, where), None) for option in arguments):
            yield from mismatches(value, arguments[0], where)
    elif origin is Literal:
        if value not in arguments:
            yield f"{where} is {_shown(value)}"
    elif is_dataclass(kind) and isinstance(value, typing.cast(type, kind)):
        hints = typing.get_type_hints(kind)
        for declared in fields(kind):
            yield from mismatches(getattr(value, declared.name), hints[declared.name],
                                  f"{where}.{declared.name}" if where else declared.name)
    elif not _is_a(value, origin or kind):
        yield f"{where} is {_shown(value)}"
    elif origin in (list, tuple):
        kinds = arguments if origin is tuple else arguments * len(value)
        if len(kinds) != len(value):
            yield f"{where} has {len(value)} items"
            return
        for number, (item, expected) in enumerate(zip(value, kinds, strict=True)):
            yield from mismatches(item, expected, f"{where}[{number}]")
    elif origin is dict:
        for key, item in value.items():
            yield from mismatches(item, arguments[1], f"{where}.{key}")


def _is_a(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) \
            and -_LARGEST <= value <= _LARGEST
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:39]}…"
