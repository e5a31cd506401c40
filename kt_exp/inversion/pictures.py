"""Optimised images as 8-bit pictures."""

from __future__ import annotations

import torch
from torch import Tensor


def as_bytes(images: Tensor, form: str) -> Tensor:
    """Return images `(…, 3, H, W)` as bytes; truncated, as by torchvision's `to_pil_image`.

    Args:
        form: `clamp`: values clamped to [0, 1]; `stretch`: minimum to maximum of each image
            (authors' script).
    """
    if form == "stretch":
        low = images.amin(dim=(-3, -2, -1), keepdim=True)
        high = images.amax(dim=(-3, -2, -1), keepdim=True)
        images = (images - low) / (high - low).clamp(min=1e-12)
    return images.clamp(0, 1).mul(255).to(torch.uint8)
