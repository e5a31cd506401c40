"""Image towers as stacks of layers, and their cut in two (supplementary Eq. 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import timm
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from kt_exp.models.protocol import SplitTower


@dataclass(frozen=True)
class LayeredTower:
    """A tower as `project(leave(layers(enter(pixels))))`.

    Attributes:
        enter: normalised pixels → the input of the first layer.
        layers: each maps features to features.
        leave: the output of the last layer → what is projected.
        project: → un-normalised embeddings `(B, D)`.
        entrance: the modules and parameters of `enter`.
    """

    enter: Callable[[Tensor], Tensor]
    layers: Sequence[nn.Module]
    leave: Callable[[Tensor], Tensor]
    project: Callable[[Tensor], Tensor]
    entrance: Sequence[nn.Module | nn.Parameter]


def layered(visual: nn.Module) -> LayeredTower | None:
    """Return the layers of an image tower of open_clip; None if its architecture is not known.

    Layers are the blocks of open_clip's and timm's ViTs, the stages of open_clip's and timm's
    ResNets and of timm's EfficientNets.
    """
    tower: Any = visual
    if isinstance(visual, VisionTransformer):
        return _vit(tower) if tower.transformer.batch_first else None
    if isinstance(visual, ModifiedResNet):
        return LayeredTower(tower.stem, _stages(tower), _same, tower.attnpool, _not_in(
            visual, [*_stages(tower), tower.attnpool]))
    if isinstance(visual, TimmModel):
        return _timm(tower.trunk, tower.head)
    return None


def split_tower(tower: Callable[[], LayeredTower], above: int,
                normalize: Callable[[Tensor], Tensor],
                autocast: Callable[[], AbstractContextManager],
                named: Iterable[tuple[str, nn.Parameter]]) -> SplitTower:
    """Return a tower, cut below its last `above` layers.

    Args:
        tower: returns the tower as it is run at the moment.
        normalize: images `(B, 3, H, W)` in [0, 1] → the tower's pixels.
        autocast: the context of the model's precision.
        named: the names and parameters of the tower.
    """
    def bottom(images: Tensor) -> Tensor:
        now = tower()
        with autocast():
            return _through(now.layers[:-above], now.enter(normalize(images))).float()

    def trunk(features: Tensor) -> Tensor:
        now = tower()
        with autocast():
            return now.leave(_through(now.layers[-above:], features)).float()

    def top(features: Tensor) -> Tensor:
        with autocast():
            return tower().project(trunk(features)).float()

    whole = tower()
    below = {id(parameter) for part in [*whole.entrance, *whole.layers[:-above]]
             for parameter in ([part] if isinstance(part, nn.Parameter) else part.parameters())}
    return SplitTower(bottom, trunk, top,
                      frozenset(name for name, parameter in named if id(parameter) not in below))


def efficientnet(network: Any, pool: Callable[[Tensor], Tensor],
                 project: Callable[[Tensor], Tensor]) -> LayeredTower:
    """Return timm's EfficientNet by its stages; `pool` reduces maps to features `(B, F)`."""
    return LayeredTower(
        lambda pixels: network.bn1(network.conv_stem(pixels)), list(network.blocks),
        lambda maps: pool(network.bn2(network.conv_head(maps))), project,
        [network.conv_stem, network.bn1])


def torchvision_resnet(network: Any) -> LayeredTower:
    """Return torchvision's ResNet by its stages; its classifier is the projection."""
    return LayeredTower(
        lambda pixels: network.maxpool(network.relu(network.bn1(network.conv1(pixels)))),
        _stages(network), lambda maps: network.avgpool(maps).flatten(1), network.fc,
        [network.conv1, network.bn1])


def _vit(visual: Any) -> LayeredTower:
    def project(pooled: Tensor) -> Tensor:
        return pooled if visual.proj is None else pooled @ visual.proj

    return LayeredTower(visual._embeds, list(visual.transformer.resblocks),
                        lambda tokens: visual._pool(tokens)[0], project,
                        [visual.conv1, visual.ln_pre, visual.class_embedding,
                         visual.positional_embedding])


def _timm(trunk: Any, head: nn.Module) -> LayeredTower | None:
    if isinstance(trunk, timm.models.vision_transformer.VisionTransformer):
        def embed(pixels: Tensor) -> Tensor:
            return trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(pixels))))

        return LayeredTower(embed, list(trunk.blocks),
                            lambda tokens: trunk.forward_head(trunk.norm(tokens)), head,
                            _not_in(trunk, [trunk.blocks, trunk.norm, trunk.fc_norm, trunk.head,
                                            trunk.attn_pool]))
    if isinstance(trunk, timm.models.efficientnet.EfficientNet):
        return efficientnet(trunk, trunk.forward_head, head)
    if isinstance(trunk, timm.models.resnet.ResNet):
        def stem(pixels: Tensor) -> Tensor:
            return trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(pixels))))

        return LayeredTower(stem, _stages(trunk), trunk.forward_head, head,
                            _not_in(trunk, [*_stages(trunk), trunk.global_pool, trunk.fc]))
    return None


def _stages(network: Any) -> list[nn.Module]:
    """Return the four stages of a ResNet, of torchvision, timm or open_clip."""
    return [network.layer1, network.layer2, network.layer3, network.layer4]


def _not_in(network: nn.Module, parts: Iterable[nn.Module | None]) -> list[nn.Parameter]:
    """Return the network's parameters that belong to none of its `parts`."""
    others = {id(parameter) for part in parts if part is not None
              for parameter in part.parameters()}
    return [parameter for parameter in network.parameters() if id(parameter) not in others]


def _same(features: Tensor) -> Tensor:
    return features


def _through(layers: Iterable[nn.Module], features: Tensor) -> Tensor:
    for layer in layers:
        features = layer(features)
    return features
