"""Trade-off of target against known accuracy, independent of a constant bias on the score.

Adding a constant γ to the concept's score trains nothing, yet trades known for target accuracy
(calibrated stacking; Chao et al., ECCV 2016). Plain accuracy is the point γ = 0 of the seen–unseen
curve. The metrics here describe the whole curve, so a constant bias does not change them.

Each of several concepts in one model has its own curve: γ is added to its score alone, and the
other concepts remain candidates with unchanged scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kt_exp.benchmarks.classification.margins import Margins
from kt_exp.results.curve import Curve
from kt_exp.results.operating_point import fewest_right

POINTS_LOST = (1, 2, 5)
METRICS = ("auroc", *(f"target_at_{points}" for points in POINTS_LOST), "ausuc",
           "best_harmonic_mean", "known_only")


@dataclass(frozen=True)
class Measured:
    """A number in [0, 1], or None with the reason why it could not be measured.

    Attributes:
        count: numerator of a rate, of `total` images; None if the value is no rate of images.
        total: number of images behind the value.
        reason: may also explain a value that is there.
    """

    value: float | None
    count: int | None
    total: int
    reason: str | None = None


@dataclass(frozen=True)
class Tradeoff:
    """The metrics of one concept in one phase, by the names in METRICS, and the thinned curve.

    `curve` is None where nothing can be measured: without images, or with margins that are not
    finite or all equal.
    """

    metrics: dict[str, Measured]
    curve: Curve | None


def plain_known_right(known: Margins, labels: Tensor) -> Tensor:
    """Return a mask `(K,)` of the known images classified correctly at γ = 0.

    For the untrained model, their number is the reference of `target_at_…`.

    Args:
        labels: candidate index of each image's class `(K,)`.
    """
    return known.taken_for() == labels


def tradeoff(target: Margins, known: Margins, labels: Tensor, reference: int) -> Tradeoff:
    """Return the metrics and the curve of one concept in one phase.

    - `auroc`: probability that an image of the concept has a larger margin than a known image,
      ties counted half.
    - `target_at_P`: the highest target accuracy whose known accuracy is at most P points below
      the reference, over γ; 0 if the model loses more at every γ.
    - `ausuc`: area under the curve of target against known accuracy, by trapezoids. It is not
      divided by the known accuracy that the curve reaches. So its upper bound is the known
      accuracy without the concept, and only a model without errors has 1.
    - `best_harmonic_mean` of target and known accuracy, over γ (Xian et al., CVPR 2017).
    - `known_only`: known accuracy with the known classes alone as candidates.

    A metric that cannot be computed is None, with the reason. With a single known class only
    `auroc` is computed: a known image cannot be mistaken for another known class.

    Args:
        target: margins of the T images of the concept.
        known: margins of the K images of known classes.
        labels: candidate index of each known image's class `(K,)`.
        reference: how many known images the untrained model classifies correctly at γ = 0
            (the sum of `plain_known_right` of the baseline).
    """
    if problem := _problem(target, known):
        total = len(target.values) + len(known.values)
        return Tradeoff(dict.fromkeys(METRICS, Measured(None, None, total, problem)), None)
    curve = _curve(_numpy(target.values), _numpy(known.values),
                   _numpy(known.best_other == labels))
    images = curve.target_total + curve.known_total
    metrics = {"auroc": Measured(_auroc(target.values, known.values), None, images)}
    for points in POINTS_LOST:
        name = f"target_at_{points}"
        metrics[name], index = _target_at(curve, reference, points)
        if index is not None:
            curve.marks[name] = index
    metrics["ausuc"] = Measured(_area(curve), None, images)
    harmonic = _harmonic_means(curve)
    curve.marks["best_harmonic_mean"] = int(harmonic.argmax())
    metrics["best_harmonic_mean"] = Measured(float(harmonic.max()), None, images)
    metrics["known_only"] = _rate(int((known.best_known == labels).sum()), curve.known_total)
    if known.known_classes == 1:
        metrics |= {name: Measured(None, None, found.total, "one known class: its images have no "
                                   "other known class to be mistaken for")
                    for name, found in metrics.items() if name != "auroc"}
    return Tradeoff(metrics, curve.thinned())


def _problem(target: Margins, known: Margins) -> str | None:
    """Return why nothing can be measured; None if something can."""
    if not len(target.values):
        return "no images of the concept"
    if not len(known.values):
        return "no images of known classes"
    margins = torch.cat([target.values, known.values])
    if bad := int((~margins.isfinite()).sum()):
        return f"{bad} of {len(margins)} margins are not finite"
    if (margins == margins[0]).all():
        return f"all {len(margins)} margins are equal"
    return None


def _curve(target: NDArray[np.float64], known: NDArray[np.float64],
           right: NDArray[np.bool_]) -> Curve:
    """Return the full curve: one point for each interval of γ between two margins."""
    levels = np.unique(np.concatenate([target, known]))[::-1]
    hits = _images_from(levels, target)
    lost = _images_from(levels, known[right])
    gamma: list[float | None] = (0.0 - levels).tolist()
    plain = int((levels > 0).sum())
    return Curve([*gamma, None], hits.tolist(), (int(right.sum()) - lost).tolist(), len(target),
                 len(known), {"plain": plain})


def _images_from(levels: NDArray[np.float64], margins: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each i = 0 … L how many margins reach the i-th of L falling levels (0: none)."""
    at_level = np.bincount(np.searchsorted(-levels, -margins), minlength=len(levels))
    return np.concatenate([[0], at_level.cumsum()])


def _auroc(target: Tensor, known: Tensor) -> float:
    margins = torch.cat([target, known])
    # Imported on use: it takes seconds, in which a run could have begun.
    from torchmetrics.functional.classification import binary_auroc

    is_target = torch.cat([torch.ones_like(target), torch.zeros_like(known)]).long()
    # Ranks in [0, 1]: torchmetrics applies a sigmoid to values outside, which creates ties.
    levels, rank = margins.unique(return_inverse=True)
    return float(binary_auroc(rank.double() / (len(levels) - 1), is_target, validate_args=False))


def _target_at(curve: Curve, reference: int, points: int) -> tuple[Measured, int | None]:
    """Return the highest target accuracy at `points` lost and its index on the curve."""
    needed = fewest_right(reference, curve.known_total, points / 100)
    if needed <= 0:
        return Measured(None, None, curve.target_total, f"the untrained model has {reference} of "
                        f"{curve.known_total} known images right: {points} points are all it has "
                        "to lose"), None
    allowed = np.flatnonzero(np.array(curve.known) >= needed)
    if not len(allowed):
        return Measured(0.0, 0, curve.target_total, "more known accuracy is lost at every γ"), None
    return _rate(curve.target[allowed[-1]], curve.target_total), int(allowed[-1])


def _area(curve: Curve) -> float:
    target = np.array(curve.target) / curve.target_total
    known = np.array(curve.known) / curve.known_total
    return float(((target[1:] + target[:-1]) / 2 * -np.diff(known)).sum())


def _harmonic_means(curve: Curve) -> NDArray[np.float64]:
    target = np.array(curve.target) / curve.target_total
    known = np.array(curve.known) / curve.known_total
    return 2 * target * known / np.maximum(target + known, np.finfo(float).tiny)


def _rate(count: int, total: int) -> Measured:
    return Measured(count / total, count, total)


def _numpy(values: Tensor) -> NDArray:
    return values.cpu().numpy()
