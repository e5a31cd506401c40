"""How long a method takes: the seconds of its stages, also where a run took them from the store."""

from __future__ import annotations

from collections.abc import Sequence

from kt_exp.report.runs import Job

STAGES = ("inversion", "finetune")


def teaching_seconds(job: Job, jobs: Sequence[Job]) -> float | None:
    """Return the seconds of inversion and fine-tuning of a run, for all its concepts.

    A stage whose results a run found in the store took no time there; then those of the run among
    `jobs` that computed the same results count. None if no run did.
    """
    found = [_stage_seconds(job, stage, jobs) for stage in STAGES]
    return None if None in found else sum(value for value in found if value is not None)


def _stage_seconds(job: Job, stage: str, jobs: Sequence[Job]) -> float | None:
    made = [other for other in (job, *jobs) if other.record
            and other.record.signatures.get(stage) == job.record.signatures.get(stage)
            and not other.record.reused.get(stage)] if job.record else []
    return made[0].record.seconds.get(stage) if made and made[0].record else None
