"""What a phase gains over another at equal forgetting, with an interval, from images' margins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kt_exp.results.intervals import Gain, bootstrap_gain
from kt_exp.results.operating_point import fewest_right, largest_gamma


@dataclass(frozen=True)
class PhaseMargins:
    """Margins of one concept in one phase: its score − the best score of another candidate.

    Attributes:
        target: of the T images of the concept `(T,)`.
        known: of the K known images `(K,)`.
        right: whether the best other candidate is the image's own class `(K,)`.
    """

    target: NDArray[np.float64]
    known: NDArray[np.float64]
    right: NDArray[np.bool_]

    def at(self, target: NDArray[np.int64], known: NDArray[np.int64]) -> PhaseMargins:
        """Return the margins of the images with these indices."""
        return PhaseMargins(self.target[target], self.known[known], self.right[known])


@dataclass(frozen=True)
class Comparison:
    """Two phases of one concept under one seed, on the same images in the same order.

    `reference` says which known images `(K,)` are right for the untrained model without γ.
    """

    before: PhaseMargins
    after: PhaseMargins
    reference: NDArray[np.bool_]


def target_at(margins: PhaseMargins, needed: int) -> float:
    """Return the highest target accuracy with `needed` known images right, over γ, in [0, 1].

    0 where no γ leaves as many right.
    """
    gamma = largest_gamma(margins.known[margins.right], needed)
    return float(np.mean(margins.target > -gamma))


def target_at_gain(comparisons: Sequence[Sequence[Comparison]], loss: float = 0.02,
                   draws: int = 2000, random_seed: int = 0) -> Gain:
    """Return the mean gain in `target_at` from `before` to `after`, with its 95 % interval.

    Known images are resampled too and γ is found anew in each draw: few images decide it, and it
    moves all concepts together.

    Args:
        comparisons: `comparisons[s][c]` has concept c under seed s. Seeds share a concept's
            images; concepts with equally many known images share those.
        loss: share of known images that γ may cost, in [0, 1].

    Raises:
        ValueError: no comparison, or a margin that is not finite.
    """
    def gains(generator: np.random.Generator | None) -> NDArray[np.float64]:
        drawn = [_indices(of_seeds[0], generator) for of_seeds in zip(*comparisons, strict=True)]
        known = {len(index): index for _, index in drawn}
        return np.array([[_gain(one, targets, known[len(one.reference)], loss)
                          for one, (targets, _) in zip(of_concepts, drawn, strict=True)]
                         for of_concepts in comparisons])

    margins = [values for row in comparisons for one in row for phase in (one.before, one.after)
               for values in (phase.target, phase.known)]
    if not all(np.isfinite(values).all() for values in margins):
        raise ValueError("margins must be finite")
    return bootstrap_gain(gains(None), gains, draws, random_seed)


def _indices(one: Comparison, generator: np.random.Generator | None) -> tuple[
        NDArray[np.int64], NDArray[np.int64]]:
    """Return indices of target and known images: resampled, or without a generator all."""
    sizes = len(one.before.target), len(one.reference)
    if generator is None:
        return np.arange(sizes[0]), np.arange(sizes[1])
    return generator.integers(sizes[0], size=sizes[0]), generator.integers(sizes[1], size=sizes[1])


def _gain(one: Comparison, targets: NDArray[np.int64], known: NDArray[np.int64],
          loss: float) -> float:
    needed = fewest_right(int(one.reference[known].sum()), len(known), loss)
    return target_at(one.after.at(targets, known), needed) \
        - target_at(one.before.at(targets, known), needed)
