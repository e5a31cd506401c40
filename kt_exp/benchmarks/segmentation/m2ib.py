"""Multi-modal information bottleneck attribution (Wang et al. 2023) of the image tower.

After one layer of the trunk, each feature x becomes λx + (1 − λ)ε with noise ε ~ N(0, var) and
λ = σ(α). A few steps of Adam on α minimise β · KL − cos(image, text). The information that still
passes the bottleneck is what the image shares with the text.

As in the published code of M2IB and MedCLIP-SAMv2: one α per token and channel, starting at
`alpha`; KL averaged over both; the map is the capacity in the last step's forward pass, without the
class token. Different from that code:

- `var` is the variance of the noise. In that code it enters no formula: it always acts as 1.
- All images share their noise draws, so that a map does not depend on its batch.
- log(1 − λ) is computed as log σ(−α), which stays finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from kt_exp.benchmarks.segmentation.settings import M2IBSettings
from kt_exp.errors import UserError
from kt_exp.models.protocol import TransformerTrunk


def saliency(model: TransformerTrunk, images: Tensor, text: Tensor,
             settings: M2IBSettings) -> Tensor:
    """Return the capacity of each patch, `(B, G, G)`, in nats, on the model's device.

    The model must be in eval mode with frozen weights. Images do not influence each other.

    Args:
        images: `(B, 3, H, W)`.
        text: unit-norm embedding of the text to look for, `(D,)`.

    Raises:
        UserError: the layer does not return a square of patches, or the result is not finite.
    """
    layer = model.trunk_layers[settings.layer]
    features = _features(model, layer, images)
    alpha = torch.full_like(features, settings.alpha, requires_grad=True)
    optimizer = torch.optim.Adam([alpha], lr=settings.lr)
    generator = torch.Generator(features.device).manual_seed(settings.seed)
    scale = settings.var ** 0.5
    capacity = features
    with torch.enable_grad():
        for _ in range(settings.steps):
            passed, lost = alpha.sigmoid(), (-alpha).sigmoid()
            noise = torch.randn((settings.draws, *features.shape[1:]), generator=generator,
                                device=features.device)
            mixed = (passed * features)[:, None] + lost[:, None] * scale * noise
            capacity = _capacity(features, alpha, settings.var)
            # Layers before the bottleneck run once per image, those after it once per draw.
            with _replaced(layer, mixed.flatten(0, 1)):
                cosines = (model.encode_image(images) @ text).view(len(images), settings.draws)
            loss = settings.beta * capacity.mean(dim=(1, 2)) - cosines.mean(dim=1)
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimizer.step()
    return _as_grid(capacity.detach().sum(dim=-1)[:, model.prefix_tokens:])


def _capacity(features: Tensor, alpha: Tensor, var: float) -> Tensor:
    """Return KL[N(λx, (1 − λ)² var) ‖ N(0, var)] of each feature, in nats."""
    passed, lost = alpha.sigmoid(), (-alpha).sigmoid()
    return 0.5 * ((passed * features).square() / var + lost.square() - 1 - 2 * F.logsigmoid(-alpha))


def _features(model: TransformerTrunk, layer: torch.nn.Module, images: Tensor) -> Tensor:
    """Return the layer's output for the images, `(B, N, C)`, fp32."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        with torch.no_grad():
            model.encode_image(images)
    finally:
        handle.remove()
    return seen[0].float()


@contextmanager
def _replaced(layer: torch.nn.Module, tokens: Tensor) -> Iterator[None]:
    """Replace the layer's output by `tokens` within the block."""
    handle = layer.register_forward_hook(
        lambda module, inputs, output: tokens.to(output.dtype))
    try:
        yield
    finally:
        handle.remove()


def _as_grid(patches: Tensor) -> Tensor:
    side = isqrt(patches.shape[1])
    if side ** 2 != patches.shape[1]:
        raise UserError("benchmark.m2ib.layer", f"returns {patches.shape[1]} patches, which are "
                        "no square", "choose a layer whose tokens are the patches of the image")
    if not bool(patches.isfinite().all()):
        raise UserError("benchmark.m2ib", "the saliency map is not finite",
                        "lower benchmark.m2ib.lr or benchmark.m2ib.steps")
    return patches.view(-1, side, side)
