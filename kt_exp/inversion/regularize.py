"""Total variation: what keeps inverted images smooth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_FIRST, _LATER, _ALL = slice(None, -1), slice(1, None), slice(None)
# Rows and columns of the pixels that follow, and of those that they follow.
_ACROSS = (..., _ALL, _LATER), (..., _ALL, _FIRST)
_DOWN = (..., _LATER, _ALL), (..., _FIRST, _ALL)
_FALLING = (..., _LATER, _LATER), (..., _FIRST, _FIRST)
_RISING = (..., _LATER, _FIRST), (..., _FIRST, _LATER)
_DIRECTIONS = (_ACROSS, _DOWN, _FALLING, _RISING)


def total_variation(images: Tensor, form: str) -> Tensor:
    """Return the total variation of each image, `(B,)`, for images `(B, 3, H, W)`.

    `norm` (authors' script, Kazemi et al. 2024): the 2-norms over H and W of the horizontal,
    vertical and both diagonal differences, summed, averaged over channels. `anisotropic`: the mean
    absolute difference of neighbours, horizontal and vertical (Rudin et al. 1992).
    """
    if form == "anisotropic":
        return torch.stack([(images[here] - images[there]).abs().mean(dim=(1, 2, 3))
                            for here, there in (_ACROSS, _DOWN)]).sum(dim=0)
    variation = _NormForm.apply(images)
    assert isinstance(variation, Tensor)
    return variation


class _NormForm(torch.autograd.Function):
    """With a gradient by hand: autograd would make an image of zeros for each of eight slices."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        parts = [images[here] - images[there] for here, there in _DIRECTIONS]
        norms = [part.norm(dim=(2, 3), keepdim=True) for part in parts]
        ctx.save_for_backward(*parts, *norms)
        ctx.shape = images.shape
        return torch.stack([norm.mean(dim=(1, 2, 3)) for norm in norms]).sum(dim=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        saved, count = ctx.saved_tensors, len(_DIRECTIONS)
        share = gradient.view(-1, 1, 1, 1) / ctx.shape[1]
        found = saved[0].new_zeros(ctx.shape)
        parts = zip(_DIRECTIONS, saved[:count], saved[count:], strict=True)
        for (here, there), part, norm in reversed(list(parts)):  # In autograd's order: to the bit.
            pull = (part / norm.masked_fill(norm == 0, 1)).mul_(share)
            found[there] -= pull
            found[here] += pull
        return found
