"""Choose layer, β and variance of M2IB on images with known masks.

MedCLIP-SAMv2 does so for every checkpoint, on three images, so its results are not strictly
zero-shot. The criterion is the mean Dice of the thresholded map, without SAM.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from surface_distance import compute_dice_coefficient
from torch import Tensor

from kt_exp.benchmarks.segmentation.maps import Segmenter
from kt_exp.benchmarks.segmentation.masks import MaskedImages
from kt_exp.benchmarks.segmentation.postprocess import upsample
from kt_exp.benchmarks.segmentation.settings import M2IBSettings, TuneSettings


def tune(segmenter: Segmenter, images: MaskedImages, settings: M2IBSettings,
         grid: TuneSettings) -> M2IBSettings:
    """Return `settings` with the layer, β and variance of the highest mean Dice on `images`.

    Ties go to the first candidate.
    """
    candidates = [
        replace(settings, layer=layer, beta=beta, var=var)
        for layer, beta, var in product(grid.layers, grid.betas, grid.variances)
    ]
    scores = []
    for number, candidate in enumerate(candidates, start=1):
        maps = segmenter.maps(images, candidate, f"tuning {number}/{len(candidates)}")
        scores.append(np.mean([_dice(images, index, patches, grid.threshold)
                               for index, patches in enumerate(maps)]))
    return candidates[int(np.argmax(scores))]


def _dice(images: MaskedImages, index: int, patches: Tensor, threshold: float) -> float:
    truth = images.mask(index)
    return float(compute_dice_coefficient(truth, upsample(patches, *truth.shape) > threshold))
