"""The largest constant γ on a concept's score that loses at most a given share of known images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9  # 0.29 × 100 is 28.999999999999996 in floating point


@dataclass(frozen=True)
class OperatingPoint:
    """A constant γ for a concept's score: images with a margin above −γ are the concept's.

    Attributes:
        gamma: γ, in the unit of the scores; None if there is none (see `reason`).
        budget: share of known images that may be lost to γ, in [0, 1].
        reference: number of known images that the reference model has right without γ.
        known_correct: number of known images that are right with γ.
        known_total: number of known images that γ was chosen on.
    """

    gamma: float | None
    budget: float
    reference: int
    known_correct: int | None
    known_total: int
    reason: str | None = None


@dataclass(frozen=True)
class Calibration:
    """The operating point of a fine-tuned model, and the images that it was chosen on.

    Attributes:
        concepts: names of the concepts taught, on whose scores γ is added.
        images: "benchmark" (images of known classes that are not reported on) or "inverted" (from
            the known classes' prompts).
        skipped: paths of the images left out because they could not be read.
    """

    concepts: list[str]
    images: str
    point: OperatingPoint
    skipped: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Calibration:
        """Return the calibration that `to_json` wrote."""
        return cls(**{**record, "point": OperatingPoint(**record["point"])})


def fewest_right(reference: int, total: int, loss: float) -> int:
    """Return how many of `total` images must stay right to lose at most the share `loss`.

    Args:
        reference: number of images that are right before.
        loss: share of `total`, in [0, 1].
    """
    return reference - math.floor(loss * total + ROUNDING)


def largest_gamma(margins: NDArray[np.float64], needed: int) -> float:
    """Return the largest γ at which at least `needed` images have margin ≤ −γ.

    The bound is attained: at that γ the last needed image ties with the concept, and ties go to the
    known class. Infinity if every γ leaves enough images, minus infinity if none does.

    Args:
        margins: margins `(N,)`, finite, of the known images that are right without the concept.
    """
    if needed <= 0:
        return math.inf
    if needed > len(margins):
        return -math.inf
    return 0.0 - float(np.partition(margins, needed - 1)[needed - 1])


def calibrate(margins: NDArray[np.float64], right: NDArray[np.bool_], budget: float,
              reference: int) -> OperatingPoint:
    """Return the largest γ that loses at most the share `budget` of known images.

    No target images are needed. γ is exact on the given images, which should differ from those
    that results are reported on. It is negative if the model exceeds the budget without γ.

    Args:
        margins: for each known image the concept's score minus the best known class's `(N,)`. For
            concepts that share a model, the score is that of the best concept: all share one γ.
        right: whether the best known class is the image's own `(N,)`.
        budget: share of the N images that may be lost, in [0, 1].
        reference: number of images that the reference model has right: the untrained model, with
            the concept among the candidates.
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
