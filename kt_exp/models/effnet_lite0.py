"""EfficientNet-Lite0 (Tan & Le 2019, in TensorFlow's "lite" form): timm's network without its
classifier, and the names that its weights have elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from timm.models.efficientnet import EfficientNet, tf_efficientnet_lite0
from torch import Tensor

FEATURES = 1280
_CLIP = 6.0  # ReLU6
_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
# The n-th block as timm numbers it: by stage, and within the stage.
_BLOCKS = [f"{stage}.{nth}" for stage, depth in enumerate(_DEPTHS) for nth in range(depth)]
_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
# The first block does not expand its channels.
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHERS = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
           "_project_conv": "conv_pwl", "_bn2": "bn3"}


def effnet_lite0() -> EfficientNet:
    """Return the network with random weights: images `(B, 3, H, W)` → features `(B, 1280)`.

    Features are the pooled output of a ReLU6, in [0, 6]. Images are normalised by the caller: mean
    127/255 and standard deviation 128/255, which is not ImageNet's. H and W may be any; the
    published weights were trained at 224.
    """
    return tf_efficientnet_lite0(num_classes=0, bn_momentum=0.01)


def with_timm_names(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Return a state under timm's names.

    Args:
        state: weights under the names of the packaged checkpoint (`_blocks.0._bn1.weight`) or
            already under timm's (`blocks.0.0.bn1.weight`).
        prefix: what the network's names begin with; others are left as they are.

    Raises:
        KeyError, IndexError: a block that EfficientNet-Lite0 does not have.
    """
    return {_renamed(name, prefix): tensor for name, tensor in state.items()}


def _renamed(name: str, prefix: str) -> str:
    if not name.startswith(f"{prefix}_"):
        return name
    own = name.removeprefix(prefix)
    if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", own):
        number, part, tensor = int(block[1]), block[2], block[3]
        parts = _OTHERS if number else _FIRST
        return f"{prefix}blocks.{_BLOCKS[number]}.{parts[part]}.{tensor}"
    part, _, tensor = own.partition(".")
    return f"{prefix}{_ENDS[part]}.{tensor}"


@torch.no_grad()
def mean_features(network: EfficientNet) -> Tensor:
    """Return the expected features, `(1280,)`, from the weights alone.

    Over the training images, a channel of the last batch norm has the mean β and the standard
    deviation |γ|; for a normal distribution the mean after clipping to [0, 6] follows in closed
    form.
    """
    normal = torch.distributions.Normal(0.0, 1.0)
    beta, gamma = network.bn2.bias, network.bn2.weight.abs().clamp(min=1e-6)
    low, high = -beta / gamma, (_CLIP - beta) / gamma
    inside = normal.cdf(high) - normal.cdf(low)
    density = torch.exp(normal.log_prob(low)) - torch.exp(normal.log_prob(high))
    return beta * inside + gamma * density + _CLIP * (1 - normal.cdf(high))
