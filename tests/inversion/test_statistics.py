"""Statistics of features, and the priors made of them."""

import pytest
import torch

from kt_exp.errors import UserError
from kt_exp.inversion.feature_prior import FeaturePrior
from kt_exp.inversion.statistics import (
    FeatureStatistics,
    as_positions,
    from_positions,
    measure,
)

CPU = torch.device("cpu")
LAYOUTS = {"vectors": (6,), "tokens": (5, 6), "maps": (6, 3, 4)}


def natural(count, shape, seed=0):
    """Features whose channels differ in mean and scale, and two of which are correlated."""
    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    values = as_positions(noise) * torch.linspace(0.5, 2, 6) + torch.arange(6.0)
    values[..., 1] += values[..., 0]
    return from_positions(values, shape)


@pytest.mark.parametrize("shape", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_go_and_come_back(shape):
    features = natural(2, shape)
    values = as_positions(features)
    assert values.shape[0] == 2
    assert values.shape[2] == 6
    assert torch.equal(from_positions(values, shape), features)


@pytest.mark.parametrize("shape", LAYOUTS.values(), ids=LAYOUTS)
def test_they_are_those_of_all_images_however_batched(shape):
    features = natural(4000, shape)
    values = as_positions(features).double()
    whole, parts = measure([features]), measure(features.split(70))
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(tensor, parts.tensors()[name])
    torch.testing.assert_close(whole.mean.double(), values.mean(dim=0))
    centred = (values - values.mean(dim=0)).flatten(0, 1)
    torch.testing.assert_close(whole.covariance.double(), centred.T @ centred / len(centred),
                               rtol=0.05, atol=0.05)
    again = FeatureStatistics.from_tensors(whole.tensors())
    assert again.shape == shape
    assert torch.equal(again.covariance, whole.covariance)


def test_fewer_images_than_channels_still_give_a_covariance_that_can_be_inverted():
    statistics = measure([natural(3, (6,))])
    torch.linalg.cholesky(statistics.covariance)


def test_images_that_are_all_the_same_have_no_variance_but_a_prior():
    statistics = measure([torch.ones(2, 5, 6).cumsum(dim=2)])
    assert (statistics.style_std > 0).all() or (statistics.covariance == 0).all()
    with pytest.raises(UserError, match=r"inversion\.statistics: 1 images have no variance"):
        measure([natural(1, (6,))])


@pytest.mark.parametrize("shape", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("form", ["mahalanobis", "channel"])
def test_natural_features_are_nearer_than_others(shape, form):
    prior = FeaturePrior(measure([natural(400, shape)]), form, CPU)
    near = prior.distance(as_positions(natural(50, shape, seed=1)))
    far = prior.distance(as_positions(3 * natural(50, shape, seed=1)))
    assert near.shape == (50,)
    assert near.mean() < 0.5 * far.mean()
    if form == "mahalanobis":
        assert near.mean().item() == pytest.approx(1, abs=0.1)
    streams = [torch.Generator().manual_seed(seed) for seed in range(50)]
    assert prior.distance(prior.start(streams)).mean() < 2 * near.mean()
