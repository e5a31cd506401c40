"""The domain gap between inverted and real images, in a model's features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kt_exp.benchmarks.classification.frechet import frechet_distance
from kt_exp.benchmarks.classification.inverted_images import domain_gap


def drawn(count: int, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) * scale + shift


def root(matrix: Tensor) -> Tensor:
    """The square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T


def naive(first: Tensor, second: Tensor) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½), by symmetric matrices alone."""
    first, second = first.double(), second.double()
    a, b = first.T.cov(), second.T.cov()
    mean = (first.mean(0) - second.mean(0)).square().sum()
    return float(mean + (a + b - 2 * root(root(a) @ b @ root(a))).trace())


@pytest.mark.parametrize("count", [40, 4])  # 4: fewer images than dimensions
def test_the_distance_is_the_naive_one(count: int) -> None:
    first, second = drawn(count), drawn(count, shift=0.3, scale=1.5, seed=1)
    assert frechet_distance(first, second) == pytest.approx(naive(first, second), abs=1e-4)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-5)


def test_a_covariance_needs_two_features() -> None:
    with pytest.raises(ValueError, match="1 and 5 features"):
        frechet_distance(drawn(1), drawn(5))


def test_images_like_the_real_ones_are_no_further_than_these_from_each_other() -> None:
    real = drawn(400)
    gap, floor, size = domain_gap(drawn(150, seed=2), real)
    shifted, same_floor, _ = domain_gap(drawn(150, shift=1, seed=2), real)
    assert size == 150
    assert floor == same_floor
    assert gap == pytest.approx(floor, abs=0.1)
    assert shifted == pytest.approx(6, abs=1)  # the squared distance of the means


@pytest.mark.parametrize(("inverted", "real", "size"), [(1, 10, 1), (10, 3, 1), (5, 4, 2)])
def test_few_images_have_no_distance(inverted: int, real: int, size: int) -> None:
    gap, floor, used = domain_gap(drawn(inverted), drawn(real, seed=1))
    assert used == size
    assert (gap is None) == (floor is None) == (size < 2)
