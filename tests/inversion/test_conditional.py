"""Features in closed form: what they satisfy, and what they are the nearest of."""

import pytest
import torch

from kt_exp.inversion.conditional import LinearGaussian

F, D = 12, 5


@pytest.fixture
def gaussian():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    root = draw(F, F)
    return LinearGaussian(draw(F), root @ root.T + torch.eye(F), draw(D, F), draw(D))


@pytest.fixture
def texts():
    generator = torch.Generator().manual_seed(1)
    return torch.nn.functional.normalize(
        torch.randn(3, D, generator=generator, dtype=torch.float64), dim=1)


def embedded(gaussian, features):
    return features @ gaussian.weight.T + gaussian.bias


def distance(gaussian, features):
    shift = features - gaussian.mean
    return (shift @ torch.linalg.inv(gaussian.covariance) * shift).sum(dim=1)


def streams(count, first=0):
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def test_without_weight_embeddings_are_the_wished_ones(gaussian, texts):
    wished = gaussian.norm * texts
    torch.testing.assert_close(embedded(gaussian, gaussian.given(texts, 0)), wished)
    samples = gaussian.samples_given(texts, 0, streams(3))
    torch.testing.assert_close(embedded(gaussian, samples), wished)
    assert not torch.allclose(samples, gaussian.given(texts, 0))


def test_of_all_features_with_that_embedding_the_mean_is_nearest_to_natural_ones(gaussian, texts):
    nearest = gaussian.given(texts, 0)
    _, _, right = torch.linalg.svd(gaussian.weight)
    unseen = right[D:]  # directions that the embedding does not show
    for seed in range(20):
        change = torch.randn(3, F - D, generator=torch.Generator().manual_seed(seed),
                             dtype=torch.float64) @ unseen
        other = nearest + 0.1 * change
        torch.testing.assert_close(embedded(gaussian, other), embedded(gaussian, nearest))
        assert (distance(gaussian, other) > distance(gaussian, nearest)).all()


def test_with_weight_it_is_the_best_of_sim_and_prior(gaussian, texts):
    weight = 0.3
    unit = (gaussian.weight @ gaussian.covariance @ gaussian.weight.T).trace() / D
    features = gaussian.given(texts, weight).requires_grad_()
    miss = (embedded(gaussian, features) - gaussian.norm * texts).square().sum(dim=1)
    (miss / unit + weight * distance(gaussian, features)).sum().backward()
    torch.testing.assert_close(features.grad, torch.zeros_like(features), atol=1e-9, rtol=0)


def test_a_larger_weight_keeps_closer_to_natural_features(gaussian, texts):
    weights = [0, 0.1, 1, 10]
    distances = [distance(gaussian, gaussian.given(texts, weight)).mean() for weight in weights]
    assert distances == sorted(distances, reverse=True)


def test_samples_scatter_around_the_mean_by_the_conditional_covariance(gaussian, texts):
    weight, count = 0.5, 4000
    unit = (gaussian.weight @ gaussian.covariance @ gaussian.weight.T).trace() / D
    samples = gaussian.samples_given(texts[:1].expand(count, -1), weight, streams(count))
    # The precision of f given a noisy embedding adds up: Σ⁻¹ + Wᵀ W / (λ v).
    precision = torch.linalg.inv(gaussian.covariance) \
        + gaussian.weight.T @ gaussian.weight / (weight * unit)
    expected = torch.linalg.inv(precision)
    scale = expected.diagonal().sqrt()
    centred = (samples - gaussian.given(texts[:1], weight)) / scale
    assert (centred.mean(dim=0).abs() < 5 / count ** 0.5).all()
    torch.testing.assert_close(centred.T @ centred / count, expected / scale / scale[:, None],
                               rtol=0, atol=0.1)


def test_embeddings_that_cannot_be_reached_are_approached(gaussian, texts):
    narrow = LinearGaussian(gaussian.mean[:2], gaussian.covariance[:2, :2],
                            gaussian.weight[:, :2], gaussian.bias)
    features = narrow.given(texts, 0)
    assert features.isfinite().all()
