"""From a grid to a coarse mask and its boxes."""

from __future__ import annotations

import numpy as np
import torch

from kt_exp.benchmarks.segmentation.postprocess import (
    boxes,
    coarse_mask,
    largest_components,
    upsample,
)


def otsu(values):
    """The threshold that splits sorted values into the two clusters of the least variance."""
    values = np.sort(values.ravel()).astype(float)
    below = np.arange(1, len(values))
    sums, squares = values.cumsum()[:-1], (values ** 2).cumsum()[:-1]
    above = len(values) - below
    spread = squares - sums ** 2 / below
    spread += (values @ values - squares) - (values.sum() - sums) ** 2 / above
    best = int(spread.argmin())
    return (values[best] + values[best + 1]) / 2


def test_a_map_runs_from_0_to_1_at_the_size_of_the_image():
    grown = upsample(torch.tensor([[2.0, 4.0], [2.0, 2.0]]), 30, 50)
    assert grown.shape == (30, 50)
    assert (grown.min(), grown.max()) == (0, 1)
    assert grown[0, -1] == 1


def test_clusters_are_almost_exactly_the_best_two():
    torch.manual_seed(0)
    for power in (1, 2, 4):
        grid = torch.rand(14, 14) ** power
        values = upsample(grid, 256, 256)
        differing = coarse_mask(grid, 256, 256, 999) != (values > otsu(values))
        assert differing.mean() < 0.001


def test_the_mask_is_the_largest_part_of_the_brighter_cluster():
    grid = torch.zeros(14, 14)
    grid[1:3, 1:3] = 1
    grid[6:11, 8:13] = 0.9
    one, two = (coarse_mask(grid, 140, 280, components) for components in (1, 2))
    assert one.shape == (140, 280)
    assert one[85, 210]
    assert not one[20, 40]
    assert two[20, 40]
    assert len(boxes(two)) == 2
    (x0, y0, x1, y1), = boxes(one)
    assert abs(x0 - 160) < 20
    assert abs(x1 - 260) < 20
    assert abs(y0 - 60) < 10
    assert abs(y1 - 110) < 10


def test_a_constant_map_has_an_empty_mask_and_no_box():
    mask = coarse_mask(torch.full((7, 7), 3.0), 20, 30, 1)
    assert not mask.any()
    assert boxes(mask) == []


def test_parts_that_touch_at_a_corner_are_one():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    assert np.array_equal(largest_components(mask, 1), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    assert largest_components(mask, 2).sum() == 3
    assert not largest_components(np.zeros((2, 2), dtype=bool), 1).any()


def test_a_box_stays_inside_the_image():
    mask = np.zeros((10, 20), dtype=bool)
    mask[4:, 15:] = True
    assert boxes(mask) == [(15, 4, 19, 9)]
