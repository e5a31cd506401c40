"""Metrics of a mask: Dice, intersection over union, normalised surface Dice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from surface_distance import (
    compute_dice_coefficient,
    compute_surface_dice_at_tolerance,
    compute_surface_distances,
)

from kt_exp.benchmarks.segmentation.postprocess import Mask


class Overlap(NamedTuple):
    """The scores of one image, each in [0, 1]; field names are the metrics' names in results."""

    DSC: float
    NSD: float
    IoU: float


def overlap(truth: Mask, predicted: Mask, nsd: str, tolerance: float) -> Overlap:
    """Return the scores of a mask against the truth, both `(H, W)`.

    If only one of the two is empty, all scores are 0; if both are, all are 1. Benchmarks refuse
    empty truths.

    Args:
        nsd: `surface2d`: the share of both contours within `tolerance` of each other.
            `medclip_samv2`: the same on masks with a third axis of one pixel, as in that code. The
            whole area then counts as surface, which gives much higher values.
        tolerance: in pixels.
    """
    if not (truth.any() and predicted.any()):
        same = float(truth.any() == predicted.any())
        return Overlap(same, same, same)
    intersection, union = np.sum(truth & predicted), np.sum(truth | predicted)
    return Overlap(
        DSC=float(compute_dice_coefficient(truth, predicted)),
        NSD=_surface_dice(truth, predicted, nsd, tolerance),
        IoU=float(intersection / union),
    )


def _surface_dice(truth: Mask, predicted: Mask, nsd: str, tolerance: float) -> float:
    if nsd == "medclip_samv2":
        truth, predicted = truth[..., None], predicted[..., None]
    distances = compute_surface_distances(truth, predicted, (1,) * truth.ndim)
    return float(compute_surface_dice_at_tolerance(distances, tolerance))
