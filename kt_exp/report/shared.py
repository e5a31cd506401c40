"""What the runs of a sweep share, so that it is said once."""

from __future__ import annotations

from collections.abc import Sequence

from kt_exp.report.grouping import concepts_of
from kt_exp.report.runs import Job


def what_on_what(jobs: Sequence[Job]) -> str:
    """Return model, benchmark and concepts in a few words: "pictoclip on pictograms, 7 concepts".

    Where the runs differ in one of them, it is their number.
    """
    names = concepts_of(jobs)
    concepts = names[0] if len(names) == 1 else f"{len(names)} concepts"
    parts = [_named(jobs, "model"), _named(jobs, "benchmark")]
    return ", ".join(filter(None, (" on ".join(filter(None, parts)), concepts)))


def shared_overrides(jobs: Sequence[Job]) -> list[str]:
    """Return the overrides that all of `jobs` were given, in order."""
    if not jobs:
        return []
    return [override for override in jobs[0].overrides
            if all(override in job.overrides for job in jobs)]


def _named(jobs: Sequence[Job], group: str) -> str:
    """Return the option of a config group, and the name that it was given, if it has one."""
    labels = dict.fromkeys(filter(None, (_label(job, group) for job in jobs)))
    return f"{len(labels)} {group}s" if len(labels) > 1 else "".join(labels)


def _label(job: Job, group: str) -> str:
    option = job.choices.get(group)
    name = str(job.settings.get(f"{group}.name") or "")
    kind = str(job.settings.get(f"{group}._target_") or "").rpartition(".")[2]
    return f"{option} ({name})" if option and name else option or name or kind
