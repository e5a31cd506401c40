"""Batch norms folded into the convolutions before them, for timm's convolutional networks.

In evaluation mode a batch norm is an affine map per channel, so that convolution and norm are one
convolution with scaled weights. Unlike a network that is fused once, this one follows its weights:
they can be trained, and replaced.
"""

from __future__ import annotations

from copy import deepcopy

import torch.nn.functional as F
from timm.layers import BatchNormAct2d, Conv2dSame, pad_same
from torch import Tensor, nn


class FoldedNorms:
    """Another way to run `network`: the same function but for rounding, with less work.

    The weights stay those of `network`, and gradients reach them. While a norm is in training mode,
    `network` itself is run.

    Args:
        network: one in which every `Conv2d`, without a bias, is followed by a `BatchNormAct2d` of
            timm, registered in this order.

    Raises:
        ValueError: it has not as many norms as convolutions.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._norms = [part for part in network.modules() if isinstance(part, BatchNormAct2d)]
        self._folded = _folded(network)

    def __call__(self, images: Tensor) -> Tensor:
        return self.current(images)

    @property
    def current(self) -> nn.Module:
        """The network that is run at the moment, folded or not."""
        training = any(norm.training for norm in self._norms)
        return self._network if training else self._folded


class _FoldedConv(nn.Module):
    def __init__(self, conv: nn.Conv2d, norm: BatchNormAct2d) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, images: Tensor) -> Tensor:
        conv, norm = self.conv, self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = norm.bias - norm.running_mean * scale
        if isinstance(conv, Conv2dSame):
            images = pad_same(images, list(conv.kernel_size), list(conv.stride))
        return F.conv2d(images, conv.weight * scale.view(-1, 1, 1, 1), bias, conv.stride,
                        conv.padding, conv.dilation, conv.groups)


def _folded(network: nn.Module) -> nn.Module:
    """Return a copy of `network` that has no weights of its own."""
    copy = deepcopy(network)
    parts = dict(network.named_modules())
    convs = [name for name, part in parts.items() if isinstance(part, nn.Conv2d)]
    norms = [name for name, part in parts.items() if isinstance(part, BatchNormAct2d)]
    for conv, norm in zip(convs, norms, strict=True):
        _replace(copy, conv, _FoldedConv(parts[conv], parts[norm]))
        _replace(copy, norm, parts[norm].act)
    return copy


def _replace(network: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, part)
