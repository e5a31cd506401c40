"""Models of open_clip, given by name and tag, checkpoint file, `local-dir:` or `hf-hub:`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import open_clip
import torch
import torch.nn.functional as F
from open_clip.hf_model import HFTextEncoder
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torchvision.transforms import Normalize

from kt_exp.atomic import save_tensors
from kt_exp.errors import UserError
from kt_exp.models.digest import digest_of
from kt_exp.models.layers import LayeredTower, layered, split_tower
from kt_exp.models.lean_vit import LeanViT, can_run_lean
from kt_exp.models.loading import (
    CONFIG_FILE,
    TEXT_CONFIG_FILE,
    WEIGHTS_FILE,
    check_network,
    load_network,
)
from kt_exp.models.preprocessing import Preprocessing
from kt_exp.models.protocol import Scorer, SplitTower
from kt_exp.models.similarity import embedding_scorer

_TEXT_CHUNK = 256
# The last linear map into the joint space, in ViT, ModifiedResNet and timm's networks.
_PROJECTION = re.compile(r"visual\.(proj|attnpool\.c_proj\..+|head\..+|"
                         r"trunk\.head\.(fc\.)?(weight|bias))")


@dataclass
class OpenClip:
    """Config of an open_clip model (`model=open_clip` and the presets made from it)."""

    name: str
    pretrained: Optional[str]

    def load(self, device: torch.device, precision: str) -> OpenClipModel:
        """Return the model with its weights on `device`, in evaluation mode.

        Raises:
            UserError: unknown model or tag, or weights that are not on this machine and cannot be
                downloaded.
        """
        network, tokenizer, architecture = load_network(self.name, self.pretrained)
        kind = kind_of(network.visual)
        return kind(network, tokenizer, architecture, device, precision)

    def check_files(self) -> None:
        """Check that the weights are on this machine or can be fetched, without loading them.

        Raises:
            UserError: they are not, or the model or tag is unknown.
        """
        check_network(self.name, self.pretrained)


class OpenClipModel:
    """An open_clip network behind `models.protocol.DualEncoder`.

    Args:
        network: an `open_clip.CLIP` or `CustomTextCLIP`.
        tokenizer: what `open_clip.get_tokenizer` returns for it.
        architecture: its open_clip `model_cfg`, written by `export`.
        precision: `fp32`, or `bf16` for autocast.
    """

    def __init__(self, network: Any, tokenizer: Any, architecture: dict[str, Any],
                 device: torch.device, precision: str = "fp32") -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._architecture = deepcopy(architecture)
        self._precision = precision
        self.device = device
        self._preprocess = PreprocessCfg(**open_clip.get_model_preprocess_cfg(network))
        self.image_size = _side(self._preprocess.size)
        self.max_text_tokens = int(tokenizer.context_length)
        self._normalize = Normalize(self._preprocess.mean, self._preprocess.std)
        self.to_tensor = _to_tensor(self._preprocess)

    @property
    def module(self) -> torch.nn.Module:
        return self._network

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of open_clip."""
        return self._tokenizer

    @property
    def preprocessing(self) -> PreprocessCfg:
        """How open_clip makes images into the network's input."""
        return self._preprocess

    @property
    def logit_scale(self) -> Tensor:
        return self._network.logit_scale.exp()

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        with self._autocast():
            pixels = self._normalize(images.to(self.device))
            features = self._network.encode_image(pixels, normalize=False)
        return F.normalize(features.float(), dim=-1) if normalize else features.float()

    @property
    def layer_count(self) -> int:
        tower = layered(self._network.visual)
        return len(tower.layers) if tower else 0

    def split(self, above: int) -> SplitTower:
        def tower() -> LayeredTower:
            found = layered(self._network.visual)
            assert found
            return found

        return split_tower(tower, above, lambda images: self._normalize(images.to(self.device)),
                           self._autocast, self.towers()["visual"].items())

    def encode_text(self, captions: Sequence[str], normalize: bool = True) -> Tensor:
        tokens = self._tokenizer(list(captions)).to(self.device)
        with self._autocast():
            features = torch.cat([self._network.encode_text(chunk, normalize=False)
                                  for chunk in tokens.split(_TEXT_CHUNK)])
        return F.normalize(features.float(), dim=-1) if normalize else features.float()

    def scorer(self, captions: Sequence[str], distance: str = "cosine") -> Scorer:
        return embedding_scorer(self, captions, distance)

    def score(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        return self.scorer(captions)(images)

    def towers(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        named = dict(self._network.named_parameters())
        visual = {name: p for name, p in named.items() if name.startswith("visual.")}
        logits = ("logit_scale", "logit_bias")
        return {
            "visual": visual,
            "visual_projection": {n: p for n, p in visual.items()
                                  if _PROJECTION.fullmatch(n)},
            "text": {n: p for n, p in named.items() if n not in visual and n not in logits},
        }

    def count_tokens(self, caption: str) -> int:
        if isinstance(self._tokenizer, open_clip.SimpleTokenizer):
            return len(self._tokenizer.encode(caption)) + 2
        cleaned = self._tokenizer.clean_fn(caption)
        return len(self._tokenizer.tokenizer(cleaned, verbose=False).input_ids)

    def fingerprint(self) -> str:
        settings = [asdict(self._preprocess), self._precision, self.max_text_tokens,
                    _vocabulary(self._tokenizer), *_text_configs(self._network)]
        return digest_of(self._network, json.dumps(self._architecture, sort_keys=True)
                         + json.dumps(settings, sort_keys=True))

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(folder / WEIGHTS_FILE, self._network.state_dict())
        if hasattr(self._tokenizer, "save_pretrained"):
            self._tokenizer.save_pretrained(folder)
        for text in _text_configs(self._network):
            (folder / TEXT_CONFIG_FILE).write_text(json.dumps(text, indent=2), encoding="utf-8")
        config = {"model_cfg": self._architecture, "preprocess_cfg": asdict(self._preprocess)}
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2), encoding="utf-8")

    def _autocast(self) -> AbstractContextManager:
        enabled = self._precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


class OpenClipTransformer(OpenClipModel):
    """An open_clip network whose image tower is a ViT: `models.protocol.TransformerTrunk`."""

    @property
    def trunk_layers(self) -> Sequence[torch.nn.Module]:
        visual = self._network.visual
        return list(visual.trunk.blocks if hasattr(visual, "trunk")
                    else visual.transformer.resblocks)

    @property
    def prefix_tokens(self) -> int:
        visual = self._network.visual
        # open_clip's own ViT has a class token and no other.
        return visual.trunk.num_prefix_tokens if hasattr(visual, "trunk") else 1


class OpenClipViT(OpenClipTransformer):
    """An open_clip network with its own ViT and projection: `models.protocol.ProjectedEncoder`."""

    def encode_trunk(self, images: Tensor) -> Tensor:
        visual = self._network.visual
        # Without a projection the tower returns its features.
        projection, visual.proj = visual.proj, None
        try:
            return self.encode_image(images, normalize=False)
        finally:
            visual.proj = projection

    def project(self, features: Tensor, normalize: bool = True) -> Tensor:
        with self._autocast():
            embedded = (features.to(self.device) @ self._network.visual.proj).float()
        return F.normalize(embedded, dim=-1) if normalize else embedded


class OpenClipPlainViT(OpenClipViT):
    """An open_clip network with a plain ViT, as CLIP's: `models.protocol.PatchEncoder`."""

    def patch_tower(self, half: bool = False) -> LeanViT:
        mean, std = (torch.tensor(values) for values in (self._normalize.mean, self._normalize.std))
        return LeanViT(self._network.visual, mean, std, half or self._precision == "bf16")


def kind_of(visual: torch.nn.Module) -> type[OpenClipModel]:
    """Return the class that offers most of what a network with this image tower can do."""
    if can_run_lean(visual):
        return OpenClipPlainViT
    if isinstance(visual, VisionTransformer):
        return OpenClipTransformer if visual.proj is None else OpenClipViT
    trunk = getattr(visual, "trunk", None)
    # Of timm's networks only ViTs have prefix tokens; in others, blocks return feature maps.
    has_tokens = hasattr(trunk, "num_prefix_tokens") and hasattr(trunk, "blocks")
    return OpenClipTransformer if has_tokens else OpenClipModel


def _text_configs(network: Any) -> list[dict[str, Any]]:
    """Return the configuration of a text tower from transformers; nothing else has its sizes."""
    if not isinstance(getattr(network, "text", None), HFTextEncoder):
        return []
    values = network.text.config.to_dict()
    for provenance in ("_name_or_path", "transformers_version"):
        values.pop(provenance, None)
    return [values]


def _vocabulary(tokenizer: Any) -> dict[str, int]:
    return {} if isinstance(tokenizer, open_clip.SimpleTokenizer) \
        else tokenizer.tokenizer.get_vocab()


def _side(size: int | Sequence[int]) -> int:
    if isinstance(size, int):
        return size
    if len(set(size)) > 1:
        raise UserError("model.name", f"takes images of {list(size)} pixels",
                        "choose a model that takes square ones")
    return size[0]


def _to_tensor(preprocess: PreprocessCfg) -> Preprocessing:
    """Return open_clip's evaluation transform without its last step, normalisation."""
    transform = image_transform_v2(preprocess, is_train=False)
    transform.transforms = [t for t in transform.transforms if not isinstance(t, Normalize)]
    decides = {k: v for k, v in asdict(preprocess).items() if k not in ("mean", "std")}
    return Preprocessing(transform, "open_clip", open_clip.__version__, decides)
