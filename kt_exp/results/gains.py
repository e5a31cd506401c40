"""Gain of one phase over another at equal forgetting, with its confidence interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kt_exp.results.intervals import Gain, bootstrap_gain
from kt_exp.results.operating_point import fewest_right, largest_gamma

LOSS = 0.02  # share of the known images that may be lost: `target_at_2`


@dataclass(frozen=True)
class PhaseMargins:
    """Margins of one concept in one phase: its score minus the best other candidate's.

    Attributes:
        target: margins of the T images of the concept `(T,)`.
        known: margins of the K known images `(K,)`.
        right: whether a known image's best other candidate is its own class `(K,)`.
    """

    target: NDArray[np.float64]
    known: NDArray[np.float64]
    right: NDArray[np.bool_]

    def at(self, target: NDArray[np.int64], known: NDArray[np.int64]) -> PhaseMargins:
        """Return the margins of the images with these indices."""
        return PhaseMargins(self.target[target], self.known[known], self.right[known])

    def plus(self, gamma: float) -> PhaseMargins:
        """Return the margins with γ on the concept's score."""
        return PhaseMargins(self.target + gamma, self.known + gamma, self.right)

    def known_right(self, gamma: float = 0.0) -> NDArray[np.bool_]:
        """Return which known images are classified right with γ `(K,)`."""
        return self.right & ~(self.known > -gamma)


@dataclass(frozen=True)
class Comparison:
    """Two phases of one concept under one seed, on the same images in the same order.

    `reference` `(K,)` marks the known images that the untrained model has right at γ = 0.
    """

    before: PhaseMargins
    after: PhaseMargins
    reference: NDArray[np.bool_]

    @classmethod
    def of(cls, before: PhaseMargins, after: PhaseMargins) -> Comparison:
        """Return the comparison of a phase with the untrained model's `before`."""
        return cls(before, after, before.known_right())


def target_at(margins: PhaseMargins, needed: int) -> float:
    """Return the highest target accuracy, in [0, 1], over all γ with `needed` known images right.

    0 if no γ leaves that many known images right.
    """
    gamma = largest_gamma(margins.known[margins.right], needed)
    return float(np.mean(margins.target > -gamma))


Statistic = Callable[[Comparison], float]


def target_at_gain(comparisons: Sequence[Sequence[Comparison]], loss: float = LOSS,
                   draws: int = 2000, random_seed: int = 0) -> Gain:
    """Return the mean gain in `target_at` from `before` to `after`, with its 95 % interval.

    Args:
        loss: share of known images that may be lost to γ, in [0, 1].
        comparisons, draws, random_seed: as for `mean_interval`.

    Raises:
        ValueError: as `mean_interval`.
    """
    return mean_interval(comparisons, lambda one: _gain(one, loss), draws, random_seed)


def mean_interval(comparisons: Sequence[Sequence[Comparison]], statistic: Statistic,
                  draws: int = 2000, random_seed: int = 0) -> Gain:
    """Return the mean of a statistic over seeds and concepts, with its 95 % bootstrap interval.

    Each draw resamples the known images too, on which γ depends: few images determine γ, and it
    affects all concepts together.

    Args:
        comparisons: `comparisons[s][c]` is concept c with seed s. All seeds have the same images
            of a concept; concepts with equally many known images have the same ones.

    Raises:
        ValueError: there is no comparison, or a margin is not finite.
    """
    def values(generator: np.random.Generator | None) -> NDArray[np.float64]:
        drawn = [_indices(of_seeds[0], generator) for of_seeds in zip(*comparisons, strict=True)]
        known = {len(index): index for _, index in drawn}
        return np.array([[statistic(_at(one, targets, known[len(one.reference)]))
                          for one, (targets, _) in zip(of_concepts, drawn, strict=True)]
                         for of_concepts in comparisons])

    margins = [part for row in comparisons for one in row for phase in (one.before, one.after)
               for part in (phase.target, phase.known)]
    if not all(np.isfinite(part).all() for part in margins):
        raise ValueError("margins must be finite")
    return bootstrap_gain(values(None), values, draws, random_seed)


def needed(one: Comparison, loss: float) -> int:
    """Return how many known images must stay right to lose at most the share `loss`."""
    return fewest_right(int(one.reference.sum()), len(one.reference), loss)


def target_accuracy(one: Comparison) -> float:
    """Return the target accuracy without a constant, in [0, 1]."""
    return float(np.mean(one.after.target > 0))


def known_change(one: Comparison, gamma: float = 0.0) -> float:
    """Return the change of known accuracy from the untrained model, in [−1, 1], with γ."""
    return float(np.mean(one.after.known_right(gamma)) - np.mean(one.reference))


def _indices(one: Comparison, generator: np.random.Generator | None) -> tuple[
        NDArray[np.int64], NDArray[np.int64]]:
    """Return indices of target and known images: resampled, or all without a generator."""
    sizes = len(one.before.target), len(one.reference)
    if generator is None:
        return np.arange(sizes[0]), np.arange(sizes[1])
    return generator.integers(sizes[0], size=sizes[0]), generator.integers(sizes[1], size=sizes[1])


def _at(one: Comparison, targets: NDArray[np.int64], known: NDArray[np.int64]) -> Comparison:
    return Comparison(one.before.at(targets, known), one.after.at(targets, known),
                      one.reference[known])


def _gain(one: Comparison, loss: float) -> float:
    right = needed(one, loss)
    return target_at(one.after, right) - target_at(one.before, right)
