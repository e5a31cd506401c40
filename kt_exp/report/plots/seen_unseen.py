"""Seen–unseen curves of runs: of one concept, or the mean over concepts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kt_exp.report.runs import Job
from kt_exp.results.curve import MOST_POINTS, Curve
from kt_exp.results.outcome import Phase

ROUNDING = 1e-9


@dataclass(frozen=True)
class Measured:
    """A curve with the untrained model's known accuracy, from which losses are counted, in %.

    `calibrated` is as in `Line`.
    """

    curve: Curve
    reference: float
    calibrated: tuple[float, float] | None = None

    @property
    def known(self) -> NDArray[np.float64]:
        """Known accuracy of each point in percent `(P,)`, falling."""
        return 100 * np.array(self.curve.known) / self.curve.known_total

    @property
    def target(self) -> NDArray[np.float64]:
        """Target accuracy of each point in percent `(P,)`, rising."""
        return 100 * np.array(self.curve.target) / self.curve.target_total

    @property
    def plain(self) -> tuple[float, float]:
        """Known and target accuracy at γ = 0, in percent."""
        index = self.curve.marks["plain"]
        return float(self.known[index]), float(self.target[index])

    def target_at(self, loss: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the highest target accuracy with at most `loss` points `(L,)` lost, in percent.

        0 where every γ loses more.
        """
        lost = self.reference - self.known
        index = np.searchsorted(lost, loss + ROUNDING, side="right")
        return np.concatenate([[0.0], self.target])[index]


@dataclass(frozen=True)
class Line:
    """A curve as it is drawn, in percent, or the mean of several.

    Attributes:
        known: falls from point to point `(P,)`.
        target: rises from point to point `(P,)`.
        plain: known and target accuracy at γ = 0.
        reference: known accuracy of the untrained model at γ = 0.
        curves: how many this is the mean of.
        calibrated: known and target accuracy at the γ that was chosen on other images, if any.
    """

    known: NDArray[np.float64]
    target: NDArray[np.float64]
    plain: tuple[float, float]
    reference: float
    curves: int = 1
    calibrated: tuple[float, float] | None = None


def measured(jobs: Sequence[Job], phase: Phase, concept: str) -> list[Measured]:
    """Return the curves of a concept in one phase, one for each job that has it."""
    found = []
    for job in jobs:
        curves = {entry.phase: entry.curve for entry in (job.record.tradeoffs if job.record else [])
                  if entry.concept == concept}
        if phase in curves and Phase.baseline in curves:
            reference = Measured(curves[Phase.baseline], 0.0).plain[0]
            calibrated = _calibrated(job, concept) if phase == Phase.transferred else None
            found.append(Measured(curves[phase], reference, calibrated))
    return found


def line_of(curves: Sequence[Measured]) -> Line:
    """Return one curve as it is; of several the mean target accuracy at equal known loss."""
    plain = _mean([one.plain for one in curves])
    points = [one.calibrated for one in curves if one.calibrated]
    calibrated = _mean(points) if len(points) == len(curves) else None
    reference = float(np.mean([one.reference for one in curves]))
    if len(curves) == 1:
        return Line(curves[0].known, curves[0].target, plain, reference, 1, calibrated)
    losses = np.unique(np.concatenate([one.reference - one.known for one in curves]).round(9))
    if len(losses) > MOST_POINTS:
        losses = losses[np.linspace(0, len(losses) - 1, MOST_POINTS).round().astype(int)]
    mean = np.mean([one.target_at(losses) for one in curves], axis=0)
    before = np.concatenate([[0.0], mean[:-1]])  # as stairs: the mean rises where one of them does
    return Line(np.repeat(reference - losses, 2), np.stack([before, mean], axis=1).ravel(), plain,
                reference, len(curves), calibrated)


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    known, target = np.mean(points, axis=0)
    return float(known), float(target)


def _calibrated(job: Job, concept: str) -> tuple[float, float] | None:
    known, target = (job.measured(Phase.calibrated, concept, split, "accuracy")
                     for split in ("known", "target"))
    return None if known is None or target is None else (100 * known, 100 * target)
