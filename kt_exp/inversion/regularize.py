"""Total variation, the regulariser that keeps inverted images smooth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_FIRST, _LATER, _ALL = slice(None, -1), slice(1, None), slice(None)
# Slices of all pixels that have a neighbour in a direction, and of these neighbours.
_ACROSS = (..., _ALL, _LATER), (..., _ALL, _FIRST)
_DOWN = (..., _LATER, _ALL), (..., _FIRST, _ALL)
_FALLING = (..., _LATER, _LATER), (..., _FIRST, _FIRST)
_RISING = (..., _LATER, _FIRST), (..., _FIRST, _LATER)
_DIRECTIONS = (_ACROSS, _DOWN, _FALLING, _RISING)


def total_variation(images: Tensor, form: str) -> Tensor:
    """Return the total variation of each image, `(B,)`, for images `(B, 3, H, W)`.

    - `norm` (authors' script, Kazemi et al. 2024): the sum of the 2-norms over H and W of the
      horizontal, vertical and both diagonal differences, averaged over channels.
    - `anisotropic` (Rudin et al. 1992): the mean absolute horizontal difference plus the mean
      absolute vertical one.
    """
    if form == "anisotropic":
        return torch.stack([(images[here] - images[there]).abs().mean(dim=(1, 2, 3))
                            for here, there in (_ACROSS, _DOWN)]).sum(dim=0)
    variation = _NormForm.apply(images)
    assert isinstance(variation, Tensor)
    return variation


class _NormForm(torch.autograd.Function):
    """The form `norm` with its own gradient: autograd would allocate zeros for all eight slices."""

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
        gradients = saved[0].new_zeros(ctx.shape)
        parts = zip(_DIRECTIONS, saved[:count], saved[count:], strict=True)
        # In autograd's order, for bit-equal sums.
        for (here, there), part, norm in reversed(list(parts)):
            pull = (part / norm.masked_fill(norm == 0, 1)).mul_(share)
            gradients[there] -= pull
            gradients[here] += pull
        return gradients
