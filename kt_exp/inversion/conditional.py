"""Features in closed form where only a linear map follows the cut (`inversion.layers=projection`).

Natural images' features are taken as f ~ N(μ, Σ), with embeddings e = W f + b. Inversion wishes for
e = s · t, along the description's unit embedding t and as long as natural images' embeddings are:
s² = E|e|². The features then maximise Eq. 2 with the sim and the R of two Gaussians,

    −|W f + b − s t|² / v − λ (f − μ)ᵀ Σ⁻¹ (f − μ),    v = tr(W Σ Wᵀ) / D,

at f* = μ + G (s t − W μ − b), G = Σ Wᵀ (W Σ Wᵀ + λ v I)⁻¹: the conditional mean of f, given that
the embedding plus noise of variance λ v is s · t. With λ = 0 the embedding is s · t exactly, where
D ≤ F, and f* is nearest to μ in Mahalanobis distance of all features that have it (docs/method.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearGaussian:
    """Gaussian features and the linear map to their embeddings, float64, on the CPU.

    Attributes:
        mean: μ, `(F,)`.
        covariance: Σ, `(F, F)`, positive definite.
        weight: W, `(D, F)`.
        bias: b, `(D,)`.
    """

    mean: Tensor
    covariance: Tensor
    weight: Tensor
    bias: Tensor

    @property
    def norm(self) -> Tensor:
        """The root mean square norm of the embeddings, s, a scalar."""
        spread = (self.weight @ self.covariance @ self.weight.T).trace()
        return ((self.weight @ self.mean + self.bias).square().sum() + spread).sqrt()

    def given(self, directions: Tensor, weight: float) -> Tensor:
        """Return the conditional mean f* for unit directions t `(T, D)`, as `(T, F)`.

        Args:
            weight: λ, at least 0.
        """
        return self._moved(self.mean, directions, weight)

    def samples_given(self, directions: Tensor, weight: float,
                      generators: Sequence[torch.Generator]) -> Tensor:
        """Return one sample of the conditional distribution for each direction, `(T, F)`.

        Matheron's rule: a sample of the prior, moved as the mean is, with the noise drawn too.
        """
        features, embeddings = self.mean.numel(), self.bias.numel()
        draws = torch.stack([torch.randn(features + embeddings, generator=g, dtype=torch.float64)
                             for g in generators])
        root = torch.linalg.cholesky(self.covariance)
        prior = self.mean + draws[:, :features] @ root.T
        noise = (weight * self._unit).sqrt() * draws[:, features:]
        return self._moved(prior, directions, weight, noise)

    def _moved(self, features: Tensor, directions: Tensor, weight: float,
               noise: Tensor | float = 0.0) -> Tensor:
        wished = self.norm * directions.double()
        missing = wished - (features @ self.weight.T + self.bias) - noise
        cross = self.covariance @ self.weight.T
        spread = self.weight @ cross
        spread = spread + weight * self._unit * torch.eye(len(spread), dtype=torch.float64)
        # The pseudo-inverse: with λ = 0 and D > F, not every embedding can be reached.
        return features + missing @ torch.linalg.pinv(spread, hermitian=True) @ cross.T

    @property
    def _unit(self) -> Tensor:
        spread = self.weight @ self.covariance @ self.weight.T
        return spread.trace() / len(spread)
