"""Checks of a record beyond its types: what a reader of one takes for granted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from kt_exp.results.conform import mismatches

if TYPE_CHECKING:
    from kt_exp.results.curve import Curve
    from kt_exp.results.record import RunRecord


def problems(record: RunRecord) -> Iterator[str]:
    """Yield what is wrong in a record that was read from a file: "metrics[3].total is 'x'"."""
    if wrong := list(mismatches(record, type(record), "")):
        yield from wrong  # The other checks rely on the types.
        return
    for name in ("started", "finished"):
        if (moment := getattr(record, name)) is not None and not _is_moment(moment):
            yield f"{name} is '{moment}', which is no time"
    for name, path in record.files.items():
        if PurePath(path).is_absolute() or ".." in PurePath(path).parts:
            yield f"files.{name} is '{path}', which is not in the folder of the run"
    for stage, curves in record.curves.items():
        for concept, curve in curves.items():
            if not _is_history(curve):
                yield f"curves.{stage}.{concept} has no steps with as many values"
    for number, entry in enumerate(record.tradeoffs):
        if not _is_whole(entry.curve):
            yield f"tradeoffs[{number}].curve has points that do not fit together"
    for number, row in enumerate(record.metrics):
        if row.total < 0 or (row.count is not None and not 0 <= row.count <= row.total):
            yield f"metrics[{number}] has {row.count} of {row.total}"


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _is_history(curve: Any) -> bool:
    """Return whether each list of a training curve has a number for each of its steps."""
    if not isinstance(curve, dict) or not isinstance(steps := curve.get("steps"), list):
        return False
    lists = [values for values in curve.values() if isinstance(values, list)]
    return all(len(values) == len(steps) and not list(mismatches(values, list[float | None], ""))
               for values in lists)


def _is_whole(curve: Curve) -> bool:
    points = len(curve.gamma)
    return (points > 0 and points == len(curve.target) == len(curve.known)
            and all(0 <= count <= curve.target_total for count in curve.target)
            and all(0 <= count <= curve.known_total for count in curve.known)
            and all(0 <= place < points for place in curve.marks.values())
            and curve.target_total > 0 and curve.known_total > 0)
