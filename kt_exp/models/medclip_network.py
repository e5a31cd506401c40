"""MedCLIP's two towers (Wang et al. 2022), and the layout of its published checkpoints."""

from __future__ import annotations

from math import isqrt
from typing import Any, Optional

import torch
import torchvision
from torch import Tensor, nn
from transformers import AutoModel

from kt_exp.models.files import first_mismatch
from kt_exp.models.layers import LayeredTower, torchvision_resnet

WIDTH = 512
# Names of Swin's modules in newer versions of transformers → in the checkpoints.
_RENAMED = {
    "attention.q_proj": "attention.self.query",
    "attention.k_proj": "attention.self.key",
    "attention.v_proj": "attention.self.value",
    "attention.o_proj": "attention.output.dense",
    "attention.relative_position_bias.": "attention.self.",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
# Constant buffers, which the checkpoints hold and newer versions of transformers do not save.
_CONSTANTS = ("position_ids", "relative_position_index")


class TextTower(nn.Module):
    """BERT and a linear head, `(T, L)` token ids and mask → `(T, 512)`."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.model = AutoModel.from_config(config, trust_remote_code=False)
        self.projection_head = nn.Linear(config.hidden_size, WIDTH, bias=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Average hidden states 1, 2 and last over all tokens, padding included."""
        states = self.model(input_ids=ids, attention_mask=mask,
                            output_hidden_states=True).hidden_states
        pooled = torch.stack([states[1], states[2], states[-1]]).mean(dim=2).mean(dim=0)
        return self.projection_head(pooled)


class SwinTower(nn.Module):
    """Swin and a linear head, `(B, 3, H, W)` → `(B, 512)`."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.model = AutoModel.from_config(config, trust_remote_code=False)
        self.projection_head = nn.Linear(config.hidden_size, WIDTH, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.projection_head(self.model(images).pooler_output)

    def layered(self) -> None:
        """Return None: the tower is not split by its layers."""


class ResNetTower(nn.Module):
    """ResNet-50, whose classifier is the head, `(B, 3, H, W)` → `(B, 512)`."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torchvision.models.resnet50()
        self.model.fc = nn.Linear(self.model.fc.in_features, WIDTH, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def layered(self) -> LayeredTower:
        """Return the tower by its stages."""
        return torchvision_resnet(self.model)


class MedClipNetwork(nn.Module):
    """Both towers and the temperature.

    Args:
        text: transformers' configuration of the text tower.
        vision: that of the image tower; None: ResNet-50.
    """

    def __init__(self, text: Any, vision: Optional[Any]) -> None:
        super().__init__()
        self.vision_model = ResNetTower() if vision is None else SwinTower(vision)
        self.text_model = TextTower(text)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())


def load_published(network: MedClipNetwork, state: dict[str, Tensor]) -> str | None:
    """Load a published checkpoint; return None.

    If it does not fit, load nothing and return the first difference from the network, in words.
    """
    found = {name: tensor for name, tensor in state.items() if not name.endswith(_CONSTANTS)}
    wanted = network.state_dict()
    ours = {_published(name): name for name in wanted if not name.endswith(_CONSTANTS)}
    if problem := first_mismatch({name: wanted[ours[name]] for name in ours}, found):
        return problem
    network.load_state_dict({ours[name]: tensor for name, tensor in found.items()}, strict=False)
    return None


def published_state(network: MedClipNetwork) -> dict[str, Tensor]:
    """Return the weights in the layout of the published checkpoints, on the CPU."""
    tensors = {**network.state_dict(), **dict(network.named_buffers())}
    state = {_published(name): tensor.detach().cpu().contiguous()
             for name, tensor in tensors.items() if not name.endswith("token_type_ids")}
    for name, tensor in state.items():
        if name.endswith("relative_position_index"):
            side = isqrt(tensor.numel())
            state[name] = tensor.view(side, side)
    return state


def _published(name: str) -> str:
    for ours, theirs in _RENAMED.items():
        name = name.replace(ours, theirs)
    return name
