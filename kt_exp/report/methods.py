"""Methods: runs that differ in how a model is taught, told apart by the option `method`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kt_exp.report.grouping import grouped, labels, varied
from kt_exp.report.runs import Job
from kt_exp.report.variants import variants_of

OPTION = "method"  # the config group of methods


@dataclass(frozen=True)
class Method:
    """Runs of one method, which differ in their seeds and concepts alone."""

    label: str
    jobs: Sequence[Job]


def methods_of(jobs: Sequence[Job]) -> list[Method]:
    """Return the methods of `jobs`.

    The label is the option `method`, with the settings in which its runs differ; runs without the
    option are labelled by what they were trained with.
    """
    found = []
    for [option], some in grouped(jobs, [OPTION]).items():
        if option is None:
            found += [Method(variant.label, variant.jobs) for variant in variants_of(some)]
            continue
        keys = [key for key in varied(some) if key != OPTION]
        groups = grouped(some, keys)
        for values, names in labels(groups).items():
            settings = [f"{key.split('.')[-1]} {name}"
                        for key, name in zip(keys, names, strict=True)]
            found.append(Method(", ".join([option.replace("_", " "), *settings]), groups[values]))
    return found
