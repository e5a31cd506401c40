"""Fréchet distance between two sets of image features (Heusel et al., NeurIPS 2017)."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Return |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), at least 0 but for rounding.

    With n images of D dimensions it is biased upwards, the more so the smaller n / D; compare it
    only with distances of as many images.

    Args:
        first, second: features `(N, D)` and `(M, D)`, N, M ≥ 2.

    Raises:
        ValueError: fewer than two features in a set.
    """
    # Imported on use: it takes seconds, in which a run could have begun.
    from torchmetrics.image.fid import FrechetInceptionDistance

    if min(len(first), len(second)) < 2:
        raise ValueError(f"{len(first)} and {len(second)} features: a covariance needs two")
    distance = FrechetInceptionDistance(feature=_AsFeatures(first.shape[1]))
    distance.update(first.double().cpu(), real=True)
    distance.update(second.double().cpu(), real=False)
    return float(distance.compute())


class _AsFeatures(torch.nn.Module):
    """Takes features for images, in place of torchmetrics' Inception network."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features
