"""Total variation: what keeps inverted images smooth."""

from __future__ import annotations

import torch
from torch import Tensor


def total_variation(images: Tensor, form: str) -> Tensor:
    """Return the total variation of each image, `(B,)`, for images `(B, 3, H, W)`.

    `norm` (authors' script, Kazemi et al. 2024): the 2-norms over H and W of the horizontal,
    vertical and both diagonal differences, summed, averaged over channels. `anisotropic`: the mean
    absolute difference of neighbours, horizontal and vertical (Rudin et al. 1992).
    """
    across = images[..., :, 1:] - images[..., :, :-1]
    down = images[..., 1:, :] - images[..., :-1, :]
    if form == "anisotropic":
        return across.abs().mean(dim=(1, 2, 3)) + down.abs().mean(dim=(1, 2, 3))
    falling = images[..., 1:, 1:] - images[..., :-1, :-1]
    rising = images[..., 1:, :-1] - images[..., :-1, 1:]
    parts = (across, down, falling, rising)
    return torch.stack([part.norm(dim=(2, 3)).mean(dim=1) for part in parts]).sum(dim=0)
