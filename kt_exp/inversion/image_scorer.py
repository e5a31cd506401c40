"""Scores of images with captions, by the model as it is or faster (`inversion.speed`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from kt_exp.errors import UserError
from kt_exp.inversion.schedule import size_at, stage_start
from kt_exp.inversion.settings import InversionSettings
from kt_exp.models.protocol import Model, PatchEncoder, PatchTower
from kt_exp.models.similarity import embedding_closeness, of_unit_norm

log = logging.getLogger(__name__)

ImageScorer = Callable[[Tensor, int], Tensor]  # images (B, 3, H, H) and the step → scores (B,)


def check_image_scorer(model: Model, settings: InversionSettings) -> None:
    """Refuse speed-ups that the model does not support; log those that the device lacks.

    Raises:
        UserError: names the key.
    """
    speed = settings.speed
    if speed.bf16 and not _has_bf16_products(model.device):
        log.info("inversion.speed.bf16 is off: this CPU has no products in bf16, and imitating "
                 "them is slower than fp32.")
    if isinstance(model, PatchEncoder) or speed.tower == "model":
        return
    for key in ("bf16", "native_size", "patch_dropout"):
        if getattr(speed, key):
            raise UserError(f"inversion.speed.{key}", "the model's image tower is not a plain ViT "
                            "of open_clip", "leave it off")


def make_image_scorer(model: Model, captions: Sequence[str], settings: InversionSettings,
                      streams: list[torch.Generator]) -> ImageScorer:
    """Return a function that scores the images of a step against B captions, encoded once.

    `streams` are those of the patches, one for each image; used with `patch_dropout` alone.
    """
    if settings.speed.tower == "lean" and isinstance(model, PatchEncoder):
        return _lean_scorer(model, captions, settings, streams)
    scorer = _compiled(model.scorer(captions, settings.distance), settings, model.device)
    return lambda images, step: scorer(to_model_size(images, model.image_size))


def to_model_size(images: Tensor, size: int) -> Tensor:
    """Return images `(B, 3, size, size)`, resized bicubically where they have another size."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False)


def _lean_scorer(model: PatchEncoder, captions: Sequence[str], settings: InversionSettings,
                 streams: list[torch.Generator]) -> ImageScorer:
    speed = settings.speed
    tower = model.patch_tower(half=speed.bf16 and _has_bf16_products(model.device))
    closeness = embedding_closeness(model, captions, settings.distance)
    unit = of_unit_norm(settings.distance)
    encode = _compiled(tower.__call__, settings, model.device)
    kept = _kept_patches(settings, tower, streams) if speed.patch_dropout else {}

    def score(images: Tensor, step: int) -> Tensor:
        side = tower.patch_size * _patches_along(settings, step, tower)
        start = stage_start(settings, step)
        seen = kept[start][step - start].to(images.device, torch.long) if kept else None
        features = encode(to_model_size(images, side), seen)
        return closeness(F.normalize(features, dim=-1) if unit else features)

    return score


def _has_bf16_products(device: torch.device) -> bool:
    # Older versions of torch lack get_capabilities.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type != "cpu" or bool(capabilities.get("avx512_bf16", True))


def _patches_along(settings: InversionSettings, step: int, tower: PatchTower) -> int:
    """Return the number of patches along a side of the tower's input.

    The input is the image at its size of `step`, or resized to the model's own size.
    """
    if not settings.speed.native_size:
        return tower.grid
    size = size_at(settings, step, tower.grid * tower.patch_size)
    return max(1, round(size / tower.patch_size))


def _kept_patches(settings: InversionSettings, tower: PatchTower,
                  streams: list[torch.Generator]) -> dict[int, Tensor]:
    """Return the indices of the patches to keep, `(steps, B, K)`, by each stage's first step.

    Drawn at once for all steps and from each image's own stream, as the affine views are.
    """
    kept = {}
    for start, end in pairwise([0, *settings.upsize_at, settings.steps]):
        patches = _patches_along(settings, start, tower) ** 2
        count = max(1, round(patches * (1 - settings.speed.patch_dropout)))
        draws = torch.stack([torch.rand(end - start, patches, generator=stream)
                             for stream in streams], dim=1)
        kept[start] = draws.argsort(dim=-1)[..., :count].to(torch.int16)
    return kept


def _compiled(function: Callable, settings: InversionSettings, device: torch.device) -> Callable:
    """Return the function compiled if `speed.compile` is set, on CUDA with CUDA graphs."""
    if not settings.speed.compile:
        return function
    # One program per image size: static shapes give faster code.
    program = torch.compile(function, dynamic=False,
                            mode="reduce-overhead" if device.type == "cuda" else "default")
    # A CUDA graph overwrites its output at each step, but the curve keeps the scores.
    return lambda *inputs: program(*inputs).clone()
