"""The plain inversion loop that kt_exp is measured against.

The recipe of the authors' published script in our words, for speed only: weights left requiring
gradients, one Adam over the batch, views drawn in the loop, images resized to the model's size at
each step, the loss read at each step, fp32, no compilation. Text is encoded once, as in kt_exp.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kt_exp.inversion.regularize import total_variation
from kt_exp.inversion.schedule import learning_rate, size_at, stage_start
from kt_exp.inversion.settings import InversionSettings
from kt_exp.models.protocol import DualEncoder


def invert_plainly(model: DualEncoder, captions: list[str], settings: InversionSettings,
                   after_step: Callable[[], None] = lambda: None) -> Tensor:
    """Return one image for each caption, `(B, 3, H, W)`."""
    model.module.eval().requires_grad_(True)
    try:
        return _loop(model, captions, settings, after_step)
    finally:
        model.module.requires_grad_(False)
        for weight in model.module.parameters():
            weight.grad = None


def _loop(model: DualEncoder, captions: list[str], settings: InversionSettings,
          after_step: Callable[[], None]) -> Tensor:
    device = model.device
    with torch.no_grad():
        texts = model.encode_text(captions)
    size = size_at(settings, 0, model.image_size)
    images = torch.rand(len(captions), 3, size, size, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([images], lr=settings.lr)
    losses = []
    for step in range(settings.steps):
        if stage_start(settings, step) == step > 0:
            size = size_at(settings, step, model.image_size)
            images = _resized(images.detach(), size).requires_grad_()
            optimizer = torch.optim.Adam([images], lr=settings.lr)
        optimizer.param_groups[0]["lr"] = learning_rate(settings, step)
        optimizer.zero_grad()
        model.module.zero_grad()
        seen = _resized(_random_view(images, settings), model.image_size)
        distance = 1 - (model.encode_image(seen) * texts).sum(dim=-1)
        smoothness = total_variation(images, settings.tv_form).mean()
        loss = distance.mean() + settings.tv_weight * smoothness
        loss.backward()
        optimizer.step()
        images.data.clamp_(0, 1)
        losses.append(loss.item())
        after_step()
    return images.detach()


def _resized(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False)


def _random_view(images: Tensor, settings: InversionSettings) -> Tensor:
    affine, count = settings.affine, len(images)
    angle = math.radians(affine.degrees) * (2 * torch.rand(count) - 1)
    shift = 2 * affine.translate * (2 * torch.rand(count, 2) - 1)
    low, high = affine.scale
    scale = low + (high - low) * torch.rand(count)
    rotation = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], dim=-1)
    matrix = torch.cat([(rotation / scale[:, None]).view(-1, 2, 2), shift[..., None]], dim=-1)
    chosen = torch.rand(count) < affine.probability
    matrix = torch.where(chosen[:, None, None], matrix, torch.eye(2, 3)).to(images.device)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode=affine.padding, align_corners=False)
