"""Grouping of jobs by the settings that were varied, and estimates over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from kt_exp.concepts import name_key
from kt_exp.report.runs import Job
from kt_exp.results.outcome import JOINT

LONGEST = 48  # characters of a setting's value


@dataclass(frozen=True)
class Estimate:
    """A number over `n` seeds: its mean and, if n > 1, its sample standard deviation."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        return cls(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def varied(jobs: Iterable[Job]) -> list[str]:
    """Return the settings that distinguish `jobs`, in the order of the config.

    If the option of a config group differs (`model`), it stands for the keys that it sets. Other
    keys are returned if an override varied them, or if nothing else distinguishes two jobs. Jobs
    without a config are ignored.
    """
    jobs = [job for job in jobs if job.config]
    keys = list(dict.fromkeys(key for job in jobs for key in job.identity))
    differing = [key for key in keys if _classes(jobs, [key]) > 1]
    options = [group for group in dict.fromkeys(key.split(".")[0] for key in differing)
               if all(group in job.choices for job in jobs) and _classes(jobs, [group]) > 1]
    swept = {override.split("=")[0].lstrip("+") for job in jobs for override in job.overrides}
    chosen = list(options)
    for key in sorted(differing, key=lambda key: key not in swept):
        group = key.split(".")[0]
        brought = group in options and _classes(jobs, [group, key]) == _classes(jobs, [group])
        refines = _classes(jobs, [*chosen, key]) > _classes(jobs, chosen)
        if refines or (key in swept and not brought):
            chosen.append(key)
    return sorted(chosen, key=[*options, *keys].index)


def grouped(jobs: Iterable[Job], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Job]]:
    """Return the jobs by their values of `keys`, in numeric, then alphabetical order."""
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.value(key) for key in keys), []).append(job)
    return dict(sorted(groups.items(), key=lambda item: [sort_key(value) for value in item[0]]))


def concepts_of(jobs: Iterable[Job]) -> list[str]:
    """Return the concepts that the jobs measure or will measure; `JOINT` if taught together."""
    names: dict[str, None] = {}
    for job in jobs:
        joint = [JOINT] if job.settings.get("finetune.scope") == "joint" else job.concepts
        measured = [row.concept for row in job.record.metrics] if job.record else []
        names |= dict.fromkeys(measured or joint)
    return list(names)


def with_mean(concepts: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return each concept as a group of one, by its title, and several also as "mean of 7"."""
    mean = {f"mean of {len(concepts)}": concepts} if len(concepts) > 1 else {}
    return {**{name: [name] for name in concepts}, **mean}


def estimate_mean(jobs: Sequence[Job], phase: str, concepts: Sequence[str], split: str | None,
                  metric: str) -> Estimate | None:
    """Return the mean of a measurement over concepts, in percent, over the seeds of `jobs`.

    Seeds in which a concept was not measured are left out; None if all are.
    """
    seeds: dict[Any, dict[str, float]] = {}
    for job in jobs:
        for concept in concepts:
            if (value := job.measured(phase, concept, split, metric)) is not None:
                seeds.setdefault(job.value("seed"), {})[concept] = 100 * value
    means = [fmean(values.values()) for values in seeds.values() if len(values) == len(concepts)]
    return Estimate.of(means) if means else None


def teaching(jobs: Iterable[Job], concept: str) -> list[Job]:
    """Return the jobs that measure or will measure `concept`, and those without known concepts."""
    named = [(job, {*concepts_of([job]), *job.concepts}) for job in jobs]
    return [job for job, names in named
            if not names or name_key(concept) in map(name_key, names)]


def shown_alike(values: Iterable[Any]) -> dict[Any, str]:
    """Return a setting's values as text; if one needs an exponent, all have it."""
    values = list(values)
    small = any(isinstance(value, float) and "e" in shown(value) for value in values)
    return {value: _scientific(value) if small and isinstance(value, float) and value
            else shown(value) for value in values}


def labels(groups: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], list[str]]:
    """Return the values of each group as text, formatted alike in all groups."""
    groups = list(groups)
    names = [shown_alike(values) for values in zip(*groups, strict=True)]
    return {group: [name[value] for name, value in zip(names, group, strict=True)]
            for group in groups}


def shown(value: Any) -> str:
    """Return a setting's value as text: 2e-05 as "2e-5"; long text is truncated."""
    if isinstance(value, float) and 0 < abs(value) <= 1e-3:
        return _scientific(value)
    if isinstance(value, float):
        return f"{value:g}"
    text = {"None": "none", "True": "true", "False": "false"}.get(str(value), str(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST - 1]}…"


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def sort_key(value: Any) -> tuple[bool, float, str]:
    """Return a sort key: numbers first, in numeric order, then text in alphabetical order."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return not is_number, value if is_number else 0.0, str(value)


def _classes(jobs: Sequence[Job], keys: Sequence[str]) -> int:
    return len({tuple(repr(job.value(key)) for key in keys) for job in jobs})
