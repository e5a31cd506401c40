"""DSC, NSD and IoU of masks whose overlap is known."""

from __future__ import annotations

import numpy as np
import pytest

from kt_exp.benchmarks.segmentation.metrics import Overlap, overlap


def disc(x, radius=20, y=64):
    rows, columns = np.mgrid[:128, :128]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius ** 2


def test_two_shifted_discs():
    """The trap: with an axis of one pixel added, the same masks score almost four times as high."""
    flat = overlap(disc(60), disc(68), "surface2d", 2)
    thin = overlap(disc(60), disc(68), "medclip_samv2", 2)
    assert [flat[1], thin[1]] == pytest.approx([0.228, 0.840], abs=5e-4)
    assert (flat.DSC, flat.IoU) == (thin.DSC, thin.IoU)


def test_rectangles():
    truth, found = np.zeros((10, 10), dtype=bool), np.zeros((10, 10), dtype=bool)
    truth[2:6, 2:6] = True
    found[2:6, 4:8] = True
    dice, surface, jaccard = overlap(truth, found, "surface2d", 2)
    assert [dice, jaccard] == pytest.approx([2 * 8 / 32, 8 / 24])
    assert surface == 1
    assert 0 < overlap(truth, found, "surface2d", 1).NSD < 1


@pytest.mark.parametrize("nsd", ["surface2d", "medclip_samv2"])
def test_extremes(nsd):
    empty = np.zeros((128, 128), dtype=bool)
    assert overlap(disc(60), disc(60), nsd, 2) == (1, 1, 1)
    assert overlap(disc(30, 10), disc(90, 10), nsd, 2) == (0, 0, 0)
    assert overlap(disc(60), empty, nsd, 2) == (0, 0, 0)
    assert overlap(empty, disc(60), nsd, 2) == (0, 0, 0)
    assert overlap(empty, empty, nsd, 2) == Overlap(1, 1, 1)
