"""How sure a measured number is: Wilson intervals of rates, bootstrap intervals of mean gains."""

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

    Unlike the normal approximation it stays within [0, 1] and holds for few images and for rates
    near 0 or 1 (Wilson, JASA 1927; Brown, Cai and DasGupta, Statistical Science 2001).

    Args:
        z: quantile of the standard normal distribution; the default gives 95 %.

    Raises:
        ValueError: no total, or a count outside 0 … total.
    """
    if total < 1 or not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is not a rate")
    rate, square = count / total, z * z
    centre = (rate + square / (2 * total)) / (1 + square / total)
    half = z * math.sqrt(rate * (1 - rate) / total + square / (4 * total * total)) \
        / (1 + square / total)
    # Rounding must not leave a bound beside the rate of 0 or 1 that it equals.
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == total else centre + half
    return low, high


def bootstrap_gain(observed: NDArray[np.float64], resample: Resample, draws: int = 2000,
                   random_seed: int = 0) -> Gain:
    """Return the mean gain with its 95 % percentile interval over seeds, concepts and images.

    Each draw takes as many seeds and as many concepts as there are, with replacement, and the
    gains on resampled images. The seeds share concepts and images, so the three are drawn
    independently of each other (pigeonhole bootstrap; Owen, Annals of Applied Statistics 2007).
    One seed or one concept is taken as it is: the interval then says nothing about others.

    Args:
        observed: gains on the images themselves `(S, C)`, a row a seed, a column a concept.
        resample: returns the gains `(S, C)` on images that it draws by the generator given.
        draws: how often to draw.
        random_seed: of the generator.

    Raises:
        ValueError: no gain, or one that is not finite.
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
