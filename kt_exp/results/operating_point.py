"""The constant γ on a concept's score that costs a given share of known images, and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9  # 0.29 × 100 is 28.999999999999996 in floating point


@dataclass(frozen=True)
class OperatingPoint:
    """A constant for a concept's score: an image is the concept's where its margin is above −γ.

    Attributes:
        gamma: γ, in the unit of the scores; None where there is none, for the `reason` given.
        budget: share of known images that γ may cost, in [0, 1].
        reference: known images that are right without γ by the model that losses are counted from.
        known_correct: known images that are right with γ.
        known_total: known images that γ was chosen on.
    """

    gamma: float | None
    budget: float
    reference: int
    known_correct: int | None
    known_total: int
    reason: str | None = None


def fewest_right(reference: int, total: int, loss: float) -> int:
    """Return how many of `total` images must be right to lose at most the share `loss` of them.

    Args:
        reference: how many are right before.
        loss: share of `total`, in [0, 1].
    """
    return reference - math.floor(loss * total + ROUNDING)


def largest_gamma(margins: NDArray[np.float64], needed: int) -> float:
    """Return the largest γ under which at least `needed` images have margin ≤ −γ.

    The bound is reached: at that γ the last image needed ties with the concept, and a tie is not
    the concept's. Infinite where every γ leaves enough, minus infinite where none does.

    Args:
        margins: of the known images that are right without the concept `(N,)`, finite.
    """
    if needed <= 0:
        return math.inf
    if needed > len(margins):
        return -math.inf
    return 0.0 - float(np.partition(margins, needed - 1)[needed - 1])


def calibrate(margins: NDArray[np.float64], right: NDArray[np.bool_], budget: float,
              reference: int) -> OperatingPoint:
    """Return the largest γ that costs known images at most `budget`. No target image is needed.

    γ is exact on the images given, which should be none of those that results are reported on.
    Where the model has already lost more than the budget without γ, γ is negative.

    Args:
        margins: of known images, score of the concept − best score of a known class `(N,)`; of
            concepts that share a model the best concept's, so that all share one γ.
        right: whether the best known class is the image's own `(N,)`.
        budget: share of the N images that may be lost, in [0, 1].
        reference: how many of the N images are right for the model that losses are counted from:
            the untrained one, with the concept among the candidates.
    """
    total = len(margins)

    def without(reason: str) -> OperatingPoint:
        return OperatingPoint(None, budget, reference, None, total, reason)

    if not total:
        return without("no known images to calibrate on")
    if not np.isfinite(margins).all():
        return without(f"{int((~np.isfinite(margins)).sum())} of {total} margins are not finite")
    gamma = largest_gamma(margins[right], fewest_right(reference, total, budget))
    if gamma == math.inf:
        return without(f"of {total} known images only {reference} were right: the budget allows "
                       "to lose them all")
    if gamma == -math.inf:
        return without(f"without the concept {int(right.sum())} of {total} known images are right, "
                       f"{reference} were before: more than the budget is lost at every γ")
    stays = right & (margins <= -gamma)
    return OperatingPoint(gamma, budget, reference, int(stays.sum()), total)
