"""The objective of a run: the numbers that a sweeper which searches is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from kt_exp.errors import did_you_mean
from kt_exp.results.outcome import Phase
from kt_exp.results.record import RunRecord

SPLITS = ("target", "known", "all")


@dataclass(kw_only=True)
class ObjectiveSettings:
    """Which numbers of its record a run returns; lists of equal length name several."""

    metric: Any
    split: Any
    phase: Any

    def problems(self) -> Iterator[tuple[str, str, str]]:
        for key, known in (("split", SPLITS), ("phase", tuple(Phase))):
            for value in _listed(getattr(self, key)):
                if value not in known:
                    yield key, f"'{value}' is not an option", did_you_mean(str(value), known)
        if not all(isinstance(name, str) and name for name in _listed(self.metric)):
            yield "metric", "no name", "give one of `metrics` in result.json, such as target_at_2"
        for key in ("metric", "split", "phase"):
            if (count := len(_listed(getattr(self, key)))) not in (1, self.count):
                yield (key, f"{count} values, where another key of the objective has {self.count}",
                       "give one for each number, or a single one for all")
            if count == 0:
                yield key, "empty", "give at least one"

    @property
    def count(self) -> int:
        """Return how many numbers there are."""
        return max(len(_listed(value)) for value in vars(self).values())

    def of(self, record: RunRecord | None) -> float | tuple[float, ...]:
        """Return the numbers of a record: one alone, or a tuple.

        Each is the mean of a metric over the concepts that have it. It is NaN if there is none, or
        if the run was not completed.
        """
        keys = [_listed(value) * (self.count if len(_listed(value)) == 1 else 1)
                for value in (self.metric, self.split, self.phase)]
        numbers = tuple(_mean(record, *one) for one in zip(*keys, strict=True))
        return numbers[0] if len(numbers) == 1 else numbers


def _mean(record: RunRecord | None, metric: str, split: str, phase: str) -> float:
    if record is None or record.status != "completed":
        return math.nan
    values = [row.value for row in record.metrics if row.value is not None
              and (row.metric, row.split, row.phase) == (metric, split, phase)]
    return fmean(values) if values else math.nan


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
