"""Confidence intervals: Wilson intervals of rates, bootstrap intervals of mean gains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution

Resample = Callable[[np.random.Generator], NDArray[np.float64]]


@dataclass(frozen=True)
class Gain:
    """A mean difference and its 95 % interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    @property
    def is_positive(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0


def wilson(count: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval `(low, high)` of the rate count / total, in [0, 1].

    Unlike the normal approximation it stays within [0, 1] and is valid for few images and for rates
    near 0 or 1 (Wilson, JASA 1927; Brown, Cai and DasGupta, Statistical Science 2001).

    Args:
        z: quantile of the standard normal distribution; the default gives 95 %.

    Raises:
        ValueError: `total` is below 1, or `count` is not in 0 … total.
    """
    if total < 1 or not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is not a rate")
    rate, square = count / total, z * z
    centre = (rate + square / (2 * total)) / (1 + square / total)
    half = z * math.sqrt(rate * (1 - rate) / total + square / (4 * total * total)) \
        / (1 + square / total)
    # At a rate of 0 or 1 one bound equals the rate; rounding must not change that.
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == total else centre + half
    return low, high


def bootstrap_gain(observed: NDArray[np.float64], resample: Resample, draws: int = 2000,
                   random_seed: int = 0) -> Gain:
    """Return the mean gain with its 95 % percentile interval over seeds, concepts and images.

    Each draw resamples seeds, concepts and images, with replacement. All seeds have the same
    concepts and images, so the three are drawn independently (pigeonhole bootstrap; Owen, Annals of
    Applied Statistics 2007). A single seed or concept is not resampled: the interval then says
    nothing about other ones.

    Args:
        observed: gains on the original images `(S, C)`, seeds by concepts.
        resample: returns the gains `(S, C)` on images that it draws with the given generator.
        draws: number of draws.
        random_seed: seed of the generator.

    Raises:
        ValueError: there is no gain, or one is not finite.
    """
    if observed.ndim != 2 or not observed.size or not np.isfinite(observed).all():
        raise ValueError("gains must be a finite matrix of seeds by concepts")
    generator = np.random.default_rng(random_seed)
    seeds, concepts = observed.shape
    means = np.empty(draws)
    for draw in range(draws):
        gains = resample(generator)
        rows = generator.integers(seeds, size=seeds)
        columns = generator.integers(concepts, size=concepts)
        means[draw] = gains[np.ix_(rows, columns)].mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return Gain(float(observed.mean()), float(low), float(high))
