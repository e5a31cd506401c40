"""Statistics of natural images' features at a cut, for the prior R of supplementary Eq. 2.

Features of B images are tokens `(B, N, C)`, maps `(B, C, H, W)`, or one vector each `(B, C)`. All
are treated as P positions of C channels: P = N, H · W or 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from kt_exp.errors import UserError

_SMALLEST = 1e-6  # of the mean variance: what a channel that never varies is given


@dataclass(frozen=True)
class FeatureStatistics:
    """Means and variances over N natural images, on the CPU, fp32.

    Attributes:
        mean: of each position, `(P, C)`.
        covariance: of the channels around these means, over all positions, `(C, C)`; it is positive
            definite.
        style_mean, style_std: the mean and the standard deviation of each channel over an image's
            positions, averaged over images, `(C,)`; with P = 1 those over images.
        shape: of one image's features.
    """

    mean: Tensor
    covariance: Tensor
    style_mean: Tensor
    style_std: Tensor
    shape: tuple[int, ...]

    @property
    def std(self) -> Tensor:
        """Standard deviation of each channel around its positions' means, `(C,)`."""
        return self.covariance.diagonal().sqrt()

    def tensors(self) -> dict[str, Tensor]:
        """Return all as tensors, as `from_tensors` takes them."""
        return {**vars(self), "shape": torch.tensor(self.shape)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> FeatureStatistics:
        """Return the statistics that `tensors` gave.

        Raises:
            KeyError: a tensor is missing.
        """
        parts = {name: tensors[name] for name in ("mean", "covariance", "style_mean", "style_std")}
        return cls(**parts, shape=tuple(tensors["shape"].tolist()))


def as_positions(features: Tensor) -> Tensor:
    """Return features of any layout as `(B, P, C)`."""
    if features.ndim == 2:
        return features[:, None]
    return features if features.ndim == 3 else features.flatten(2).mT


def from_positions(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return `(B, P, C)` in the layout of one image's `shape`: the way back of `as_positions`."""
    return (values.mT if len(shape) == 3 else values).reshape(-1, *shape)


def measure(batches: Iterable[Tensor]) -> FeatureStatistics:
    """Return the statistics of features, given in batches of images.

    Sums are float64. The covariance is shrunk towards a multiple of the identity by the oracle
    approximating shrinkage of Chen et al. 2010 (Eq. 23), as images may be fewer than channels. It
    takes the images for the number of samples, as the positions of an image are not independent.

    Raises:
        UserError: there are fewer than two images.
    """
    count, shape = 0, tuple[int, ...]()
    total = outer = style_mean = style_square = style_std = torch.zeros((), dtype=torch.float64)
    for features in batches:
        shape = tuple(features.shape[1:])
        values = as_positions(features).double().cpu()
        count += len(values)
        total = total + values.sum(dim=0)
        outer = outer + torch.einsum("bpc,bpd->cd", values, values)
        of_each = values.mean(dim=1)
        style_mean = style_mean + of_each.sum(dim=0)
        style_square = style_square + of_each.square().sum(dim=0)
        style_std = style_std + values.std(dim=1, correction=0).sum(dim=0)
    if count < 2:
        raise UserError("inversion.statistics", f"{count} images have no variance",
                        "give at least two")
    mean = total / count
    positions = len(mean)
    covariance = _shrunk(outer / count / positions - mean.T @ mean / positions, count)
    spread = style_std / count if positions > 1 else \
        (style_square / count - (style_mean / count).square()).clamp(min=0).sqrt()
    floor = (_SMALLEST * covariance.trace() / len(covariance)).sqrt()
    return FeatureStatistics(mean.float(), covariance.float(), (style_mean / count).float(),
                             spread.clamp(min=floor).float(), shape)


def _shrunk(sample: Tensor, count: int) -> Tensor:
    size = len(sample)
    trace, square = sample.trace(), sample.square().sum()
    spread = square - trace.square() / size
    share = ((1 - 2 / size) * square + trace.square()) / ((count + 1 - 2 / size) * spread) \
        if spread > 0 else torch.ones(())
    share = share.clamp(min=_SMALLEST, max=1)
    identity = torch.eye(size, dtype=sample.dtype)
    return (1 - share) * sample + share * trace / size * identity
