"""The networks of `effnet_minilm`: EfficientNet-Lite0, MiniLM, and the linear map between them."""

from __future__ import annotations

import torch
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn
from transformers import BertModel

from kt_exp.models.effnet_lite0 import FEATURES
from kt_exp.models.folded_norms import FoldedNorms
from kt_exp.models.layers import LayeredTower, efficientnet

# Neither network has learned a temperature: NT-Xent's usual one, also the authors' script's.
TEMPERATURE = 0.07
_MEAN, _STD = 127 / 255, 128 / 255


class ImageTower(nn.Module):
    """EfficientNet-Lite0 and a projection of its centred features, `(B, 3, H, W)` → `(B, D)`."""

    mean: Tensor

    def __init__(self, trunk: EfficientNet, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        # Without it, a step of inversion takes 1.2 to 1.6 times as long on a CPU.
        self._run_trunk = FoldedNorms(trunk)
        self.projection = nn.Linear(FEATURES, width, bias=False)
        self.register_buffer("mean", torch.zeros(FEATURES))

    def forward(self, images: Tensor) -> Tensor:
        return self.project(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Return the features that are projected, `(B, 1280)`."""
        return self._run_trunk(self.normalize(images))

    def normalize(self, images: Tensor) -> Tensor:
        """Return the pixels that the trunk takes, of images `(B, 3, H, W)` in [0, 1]."""
        return ((images - _MEAN) / _STD).contiguous(memory_format=torch.channels_last)

    def project(self, features: Tensor) -> Tensor:
        return self.projection(features - self.mean)

    def layered(self) -> LayeredTower:
        """Return the tower by its stages, as it is run at the moment."""
        return efficientnet(self._run_trunk.current, self.trunk.forward_head, self.project)


class Towers(nn.Module):
    """Both networks and the linear map between them.

    Args:
        excluded: names of the classes left out of the regression; `export` writes them.
    """

    centre: Tensor
    logit_scale: Tensor

    def __init__(self, trunk: EfficientNet, text: BertModel, excluded: list[str]) -> None:
        super().__init__()
        width = text.config.hidden_size
        self.excluded = excluded
        self.visual = ImageTower(trunk, width)
        self.text = text
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("logit_scale", torch.tensor(1 / TEMPERATURE))

    @torch.no_grad()
    def set_join(self, mean: Tensor, projection: Tensor, centre: Tensor) -> None:
        """Set the mean feature `(1280,)`, the projection `(D, 1280)` and the mean text `(D,)`."""
        self.visual.mean.copy_(mean)
        self.visual.projection.weight.copy_(projection)
        self.centre.copy_(centre)
