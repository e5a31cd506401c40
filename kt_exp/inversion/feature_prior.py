"""R of supplementary Eq. 2: how far features lie from those of natural images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kt_exp.inversion.statistics import FeatureStatistics


class FeaturePrior:
    """The distance of features `(B, P, C)` from natural images', and a start that is near them.

    Args:
        form: `mahalanobis` or `channel`; see `distance`.
    """

    def __init__(self, statistics: FeatureStatistics, form: str, device: torch.device) -> None:
        self._form = form
        self._mean = statistics.mean.to(device)
        self._style = statistics.style_mean.to(device), statistics.style_std.to(device)
        self.scale = statistics.std.to(device)
        root = torch.linalg.cholesky(statistics.covariance.double())
        self._root = root.float().to(device)
        self._whitening = torch.linalg.inv(root).float().to(device)

    def start(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Return random features, one image from each generator, `(B, P, C)`.

        Each position is drawn from N(μ_p, Σ), independent of the others.
        """
        noise = torch.stack([torch.randn(self._mean.shape, generator=g) for g in generators])
        return self._mean + noise.to(self._root) @ self._root.T

    def distance(self, features: Tensor) -> Tensor:
        """Return R of each image, `(B,)`, at least 0; about 1 for natural images (`mahalanobis`).

        - `mahalanobis`: (z_p − μ_p)ᵀ Σ⁻¹ (z_p − μ_p) / C, averaged over the P positions.
        - `channel`: the squared distance of each channel's mean and standard deviation over
          positions from natural images' averages, in units of the latter deviation, averaged over
          channels (the statistics of style transfer: Huang & Belongie 2017, Eq. 12). With P = 1,
          that of the value alone.
        """
        if self._form == "mahalanobis":
            return ((features - self._mean) @ self._whitening.T).square().mean(dim=(1, 2))
        mean, std = self._style
        shift = ((features.mean(dim=1) - mean) / std).square()
        if features.shape[1] == 1:
            return shift.mean(dim=1)
        stretch = (features.std(dim=1, correction=0) / std - 1).square()
        return (shift + stretch).mean(dim=1)
