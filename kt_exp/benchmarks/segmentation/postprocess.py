"""From a saliency map to a coarse mask: the largest components of the brighter of two clusters.

Follows MedCLIP-SAMv2: k-means with k = 2 on the map at 256 × 256, then 8-connected components at
the image's size. Two differences: MedCLIP-SAMv2 first converts the map to an 8-bit picture of the
image's size with nearest-neighbour resizing, where here the grid is resized to 256 × 256 directly;
and k-means starts at the darkest and the brightest value instead of random ones.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from torch import Tensor

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]

SIDE = 256
ITERATIONS = 50
EIGHT_NEIGHBOURS = np.ones((3, 3))


def upsample(grid: Tensor, height: int, width: int) -> NDArray[np.float32]:
    """Return a grid `(G, G)` as a map `(height, width)`: bilinear, scaled to [0, 1].

    A constant grid becomes zeros.
    """
    grown = F.interpolate(grid[None, None].float(), size=(height, width), mode="bilinear")[0, 0]
    low, high = grown.min(), grown.max()
    return ((grown - low) / (high - low).clamp(min=1e-12)).cpu().numpy()


def coarse_mask(grid: Tensor, height: int, width: int, components: int) -> Mask:
    """Return the largest `components` of a grid's brighter cluster, `(height, width)`.

    A constant grid has no brighter cluster: its mask is empty.
    """
    values = upsample(grid, SIDE, SIDE)
    if not values.any():
        return np.zeros((height, width), dtype=bool)
    _, labels = kmeans2(values.reshape(-1, 1), np.array([[0.0], [1.0]], dtype=np.float32),
                        iter=ITERATIONS, minit="matrix")
    bright = torch.from_numpy(labels.reshape(1, 1, SIDE, SIDE).astype(np.float32))
    at_size = F.interpolate(bright, size=(height, width), mode="nearest")[0, 0].numpy()
    return largest_components(at_size > 0, components)


def largest_components(mask: Mask, count: int) -> Mask:
    """Return the `count` largest connected components of a mask; ties go to the upper one."""
    labels, found = ndimage.label(mask, EIGHT_NEIGHBOURS)
    sizes = np.bincount(labels.ravel())[1:]
    largest = 1 + np.argsort(-sizes, kind="stable")[:count]
    return np.isin(labels, largest) if found else mask


def boxes(mask: Mask) -> list[Box]:
    """Return the box of each connected component as x0, y0, x1, y1, in pixels.

    x1 and y1 are one past the component, but inside the image, as in MedCLIP-SAMv2.
    """
    height, width = mask.shape
    labels, _ = ndimage.label(mask, EIGHT_NEIGHBOURS)
    return [
        (columns.start, rows.start, min(columns.stop, width - 1), min(rows.stop, height - 1))
        for rows, columns in ndimage.find_objects(labels)
    ]
