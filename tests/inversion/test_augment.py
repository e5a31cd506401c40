"""Affine views against transforms known by heart."""

import math

import pytest
import torch

from kt_exp.inversion.augment import apply_affine, draw_affine
from kt_exp.inversion.invert import Task, _views
from kt_exp.inversion.settings import AffineSettings

STILL = {"probability": 1, "degrees": 0, "translate": 0, "scale": [1, 1], "padding": "zeros",
         "per_sample": True}


def draw(count=500, **changes):
    settings = AffineSettings(**{**STILL, **changes})
    return draw_affine(settings, count, [torch.Generator().manual_seed(0)])[:, 0]


@pytest.fixture
def images():
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_never_applied_it_is_the_identity(images):
    transforms = draw(2, probability=0, degrees=90, translate=0.5, scale=[0.5, 2])
    torch.testing.assert_close(apply_affine(images, transforms, "zeros"), images)


def test_applied_as_often_as_its_probability_says():
    transforms = draw(4000, probability=0.3, degrees=30)
    changed = (transforms != torch.eye(2, 3)).any(dim=(1, 2)).float().mean()
    assert changed == pytest.approx(0.3, abs=0.03)


def test_angles_fill_their_range_and_keep_lengths():
    linear = draw(degrees=30)[:, :, :2]
    angles = torch.atan2(linear[:, 0, 1], linear[:, 0, 0]) * 180 / math.pi
    assert -30 <= angles.min() < -28
    assert 28 < angles.max() <= 30
    torch.testing.assert_close(torch.linalg.det(linear), torch.ones(500))


def test_shifts_are_shares_of_the_side():
    shifts = draw(translate=0.1)[:, :, 2] / 2  # the image is 2 wide in these coordinates
    for axis in shifts.T:
        assert -0.1 <= axis.min() < -0.09
        assert 0.09 < axis.max() <= 0.1


def test_scales_are_sizes_of_what_is_seen():
    sizes = 1 / draw(scale=[0.7, 1.2])[:, 0, 0]
    assert 0.7 <= sizes.min() < 0.72
    assert 1.18 < sizes.max() <= 1.2 + 1e-6


def test_half_the_size_shows_the_image_in_the_middle_of_the_padding():
    white = torch.ones(1, 3, 8, 8)
    half = apply_affine(white, draw(1, scale=[0.5, 0.5]), "zeros")
    assert half[0, 0, 2:6, 2:6].min() == 1
    assert half[0, 0, 0].max() == half[0, 0, :, 0].max() == 0
    assert apply_affine(white, draw(1, scale=[0.5, 0.5]), "border").min() == 1


def test_turned_by_a_right_angle_and_shifted_by_half(images):
    turn = torch.tensor([[[0.0, 1, 0], [-1, 0, 0]]]).expand(2, 2, 3)
    turned = apply_affine(images, turn, "zeros")
    assert any(torch.allclose(turned, images.rot90(k, (2, 3)), atol=1e-5) for k in (1, 3))
    shift = torch.tensor([[[1.0, 0, 1], [0, 1, 0]]]).expand(2, 2, 3)
    shifted = apply_affine(images, shift, "zeros")
    torch.testing.assert_close(shifted[..., :4], images[..., 4:])
    assert shifted[..., 4:].abs().max() == 0


def test_one_view_for_all_or_one_for_each(settings):
    tasks = [Task("a tower", 0), Task("a tower", 1), Task("a dish", 0)]
    own = _views(tasks, settings(affine={"probability": 1}), seed=0)
    shared = _views(tasks, settings(affine={"probability": 1, "per_sample": False}), seed=0)
    assert not torch.equal(own[:, 0], own[:, 1])
    assert not torch.equal(own[:, 0], own[:, 2])
    assert torch.equal(shared[:, 0], shared[:, 1])
    assert torch.equal(shared[:, 0], shared[:, 2])
    assert not torch.equal(shared[0], shared[1])
