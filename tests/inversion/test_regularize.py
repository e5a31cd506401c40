"""Total variation against loops over pixels."""

import math

import pytest
import torch

from kt_exp.inversion.regularize import total_variation

NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (-1, 1))


def naive_norm(image):
    channels, height, width = image.shape
    total = 0.0
    for down, right in NEIGHBOURS:
        for c in range(channels):
            squares = [
                float(image[c, y + down, x + right] - image[c, y, x]) ** 2
                for y in range(height) for x in range(width)
                if 0 <= y + down < height and x + right < width
            ]
            total += math.sqrt(sum(squares)) / channels
    return total


def test_the_norm_form_is_that_of_the_authors():
    images = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    expected = [naive_norm(image) for image in images]
    assert total_variation(images, "norm").tolist() == pytest.approx(expected, rel=1e-5)


def test_the_anisotropic_form_is_the_mean_difference_of_neighbours():
    steps = torch.arange(4.0).view(1, 1, 1, 4).expand(2, 3, 5, 4) * torch.tensor([1.0, 2.0])[
        :, None, None, None]
    assert total_variation(steps, "anisotropic").tolist() == [1, 2]


def test_the_gradient_of_the_norm_form_is_that_of_small_steps():
    images = torch.rand(2, 3, 5, 4, dtype=torch.float64, requires_grad=True,
                        generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: total_variation(x, "norm"), images)


def test_the_gradient_of_the_norm_form_is_autograds_to_the_bit():
    start, found = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), []
    parts = (lambda x: x[..., 1:] - x[..., :-1], lambda x: x[..., 1:, :] - x[..., :-1, :],
             lambda x: x[..., 1:, 1:] - x[..., :-1, :-1],
             lambda x: x[..., 1:, :-1] - x[..., :-1, 1:])
    for variation in (
            lambda x: torch.stack([part(x).norm(dim=(2, 3)).mean(1) for part in parts]).sum(0),
            lambda x: total_variation(x, "norm")):
        images = start.clone().requires_grad_()
        score = images.sin().sum()
        (0.005 * variation(images).sum() - score).backward()
        found.append(images.grad)
    assert torch.equal(*found)


@pytest.mark.parametrize("form", ["norm", "anisotropic"])
def test_one_colour_has_none_and_its_gradient_is_finite(form):
    flat = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    total = total_variation(flat, form)
    total.sum().backward()
    assert total.item() == 0
    assert flat.grad.isfinite().all()
