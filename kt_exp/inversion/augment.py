"""Random affine augmentation of the optimised images, one random stream per image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kt_exp.inversion.settings import AffineSettings

_DRAWS = 5  # apply?, angle, translation x and y, scale


def draw_affine(settings: AffineSettings, steps: int, generators: list[torch.Generator]) -> Tensor:
    """Return the transforms of all steps, `(steps, B, 2, 3)`, from one generator per image.

    Each maps output to input coordinates in [-1, 1], as `affine_grid` expects. All are drawn at
    once, so that the loop never waits for random numbers and a resumed run uses the same ones.
    """
    draws = torch.stack([torch.rand(steps, _DRAWS, generator=g) for g in generators], dim=1)
    apply, angle, x, y, scale = draws.unbind(-1)
    angle = (2 * angle - 1) * math.radians(settings.degrees)
    shift = 2 * (2 * torch.stack([x, y], dim=-1) - 1) * settings.translate
    low, high = settings.scale
    shrink = 1 / (low + (high - low) * scale)
    cos, sin = angle.cos() * shrink, angle.sin() * shrink
    linear = torch.stack([cos, sin, -sin, cos], dim=-1).unflatten(-1, (2, 2))
    transforms = torch.cat([linear, -linear @ shift.unsqueeze(-1)], dim=-1)
    identity = torch.eye(2, 3).expand_as(transforms)
    return torch.where((apply < settings.probability)[..., None, None], transforms, identity)


def apply_affine(images: Tensor, transforms: Tensor, padding: str) -> Tensor:
    """Return images `(B, 3, H, W)` transformed by `(B, 2, 3)`, sampled bilinearly."""
    grid = F.affine_grid(transforms, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
