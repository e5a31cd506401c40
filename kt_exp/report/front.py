"""Methods side by side: what each finds, what it forgets, how long it takes; the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kt_exp.report.controls import UNTRAINED
from kt_exp.report.evidence import LOSS, Evidence, evidence_of, shared_concepts
from kt_exp.report.grid import Grid, StyledText
from kt_exp.report.grouping import Estimate
from kt_exp.report.methods import methods_of
from kt_exp.report.runs import Job, newest
from kt_exp.report.seconds import teaching_seconds
from kt_exp.report.table import summary_line
from kt_exp.report.variants import comparable
from kt_exp.results.gains import (
    Comparison,
    known_change,
    needed,
    target_accuracy,
    target_at,
)
from kt_exp.results.intervals import Gain
from kt_exp.results.operating_point import largest_gamma
from kt_exp.results.outcome import Phase
from kt_exp.results.summary import MISSING, TARGET_AT_2, signed

POINTS = round(100 * LOSS)
HEADER = ("", f"Target at {POINTS} points lost", "Target", "Known change", "AUROC", "Seconds",
          "Front", "seeds")
BIAS = f"{UNTRAINED[Phase.baseline]}, {POINTS} points lost"


@dataclass(frozen=True)
class MethodPoint:
    """What a method reaches: means over concepts and seeds, with 95 % bootstrap intervals.

    Attributes:
        target_at_2: target accuracy at two points of known accuracy lost, in [0, 1].
        target: target accuracy without a constant; of bias alone, with the constant.
        known: change of known accuracy from the untrained model, in [−1, 1].
        seconds: of inversion and fine-tuning, all concepts together; None where not known.
        on_front: whether no other method has more of `target` or `known` and as much of the other.
    """

    label: str
    phase: Phase
    evidence: Evidence
    target_at_2: Gain | None
    target: Gain | None
    known: Gain | None
    seconds: Estimate | None
    on_front: bool = False

    @property
    def is_trained(self) -> bool:
        return self.phase is Phase.transferred


def method_points(jobs: Sequence[Job], draws: int = 2000) -> tuple[list[MethodPoint], list[str]]:
    """Return the points of all methods and of what trains nothing, and the concepts they share.

    The best at equal forgetting come first, methods before what trains nothing.

    Args:
        draws: of the bootstrap, for each interval.

    Raises:
        UserError: no completed run, one without margins, runs that differ in more than their
            training, or no concept that all methods have.
    """
    methods = methods_of(comparable(newest(jobs)))
    found = [evidence_of(method.jobs) for method in methods]
    concepts = shared_concepts(found)
    points = []
    for method, evidence in zip(methods, found, strict=True):
        seconds = [teaching_seconds(job, jobs) for job in method.jobs]
        known = [value for value in seconds if value is not None]
        took = Estimate.of(known) if known else None
        points.append(_point(method.label, Phase.transferred, evidence, concepts, took, draws))
        if shifted := evidence.calibrated():
            points.append(_point(f"{method.label}, calibrated", Phase.transferred, shifted,
                                 concepts, took, draws))
    first = found[0].first_seed()
    points += [_point(BIAS if phase is Phase.baseline else label, phase, first, concepts,
                      Estimate(0.0, None, 1), draws)
               for phase, label in UNTRAINED.items() if first.has(phase, concepts)]
    points.sort(key=lambda point: (not point.is_trained,
                                   -(point.target_at_2.mean if point.target_at_2 else 0.0)))
    return [replace(point, on_front=_is_on_front(point, points)) for point in points], concepts


def front(jobs: Sequence[Job], draws: int = 2000) -> Grid:
    """Return the table of `method_points`, accuracies in percent, AUROC × 100.

    Raises:
        UserError: as `method_points`.
    """
    points, concepts = method_points(jobs, draws)
    grid = Grid(f"{summary_line(newest(jobs))} AUROC × 100.", HEADER, [], labels=1)
    for heading, trained in (("Taught", True), ("Not trained", False)):
        rows = [point for point in points if point.is_trained is trained]
        grid.rows += [[StyledText(heading)], *(_cells(point, concepts) for point in rows)]
        grid.data += [_data(point, concepts) for point in rows]
    names = ", ".join(point.label for point in points if point.on_front)
    grid.notes = [
        StyledText(f"Pareto front of target and known accuracy: {names}.", "bold"),
        StyledText(f"Means over {', '.join(concepts)}. Brackets: 95 % bootstrap intervals over "
                   "images, concepts and seeds. Seconds: inversion and fine-tuning of all "
                   f"concepts. {BIAS}: with the largest constant that loses no more.", "soft")]
    return grid


def _point(label: str, phase: Phase, evidence: Evidence, concepts: Sequence[str],
           seconds: Estimate | None, draws: int) -> MethodPoint:
    biased = phase is Phase.baseline

    def interval(statistic: Any) -> Gain | None:
        return evidence.interval(phase, concepts, statistic, draws)

    at_2 = interval(_target_at_loss)
    return MethodPoint(label, phase, evidence, at_2, at_2 if biased else interval(target_accuracy),
                       interval(_known_at_loss if biased else known_change), seconds)


def _target_at_loss(one: Comparison) -> float:
    return target_at(one.after, needed(one, LOSS))


def _known_at_loss(one: Comparison) -> float:
    gamma = largest_gamma(one.after.known[one.after.right], needed(one, LOSS))
    return known_change(one, gamma)


def _is_on_front(point: MethodPoint, points: Sequence[MethodPoint]) -> bool:
    own = _place(point)
    return own is not None and not any(
        other is not None and (other >= own).all() and (other > own).any()
        for other in map(_place, points))


def _place(point: MethodPoint) -> np.ndarray | None:
    if point.target is None or point.known is None:
        return None
    return np.round([point.target.mean, point.known.mean], 9)


def _cells(point: MethodPoint, concepts: Sequence[str]) -> list[StyledText]:
    auroc = point.evidence.mean(point.phase, concepts, "all", "auroc")
    over_seeds = point.evidence.mean(point.phase, concepts, "target", TARGET_AT_2)
    spread = "" if over_seeds is None or over_seeds.std is None else f" ±{over_seeds.std:.1f}"
    return [
        StyledText(point.label, "bold" if point.on_front else ""),
        StyledText(f"{100 * point.target_at_2.mean:.1f}{spread} {_bounds(point.target_at_2)}"
                   if point.target_at_2 else MISSING),
        StyledText(f"{100 * point.target.mean:.1f} {_bounds(point.target)}" if point.target
                   else MISSING),
        StyledText(f"{signed(100 * point.known.mean)} {_bounds(point.known, signed)}"
                   if point.known else MISSING),
        StyledText(f"{auroc.mean:.1f}" if auroc else MISSING),
        StyledText(shown_seconds(point)),
        StyledText("yes" if point.on_front else "", "good"),
        StyledText(str(len(point.evidence.cases)) if point.is_trained else ""),
    ]


def shown_seconds(point: MethodPoint) -> str:
    """Return a method's seconds as text, to two digits; a dash where they are not known."""
    if point.seconds is None:
        return MISSING
    seconds = point.seconds.mean
    return f"{seconds:.0f}" if seconds >= 10 or not seconds else f"{seconds:.2g}"


def _bounds(gain: Gain, shown: Any = "{:.1f}".format) -> str:
    return f"[{shown(100 * gain.low)}, {shown(100 * gain.high)}]"


def _data(point: MethodPoint, concepts: Sequence[str]) -> dict[str, Any]:
    data: dict[str, Any] = {"method": point.label, "phase": str(point.phase)}
    for name, gain in ((TARGET_AT_2, point.target_at_2), ("target", point.target),
                       ("known_change", point.known)):
        data |= {name: gain and 100 * gain.mean, f"{name}_low": gain and 100 * gain.low,
                 f"{name}_high": gain and 100 * gain.high}
    over_seeds = point.evidence.mean(point.phase, concepts, "target", TARGET_AT_2)
    auroc = point.evidence.mean(point.phase, concepts, "all", "auroc")
    jobs = [case.job for cases in point.evidence.cases.values() for case in cases.values()]
    return data | {
        f"{TARGET_AT_2}_std": over_seeds and over_seeds.std, "auroc": auroc and auroc.mean,
        "seconds": point.seconds and point.seconds.mean, "on_front": point.on_front,
        "seeds": len(point.evidence.cases), "concepts": len(concepts),
        "paths": " ".join(dict.fromkeys(str(job.folder) for job in jobs))}
