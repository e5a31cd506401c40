"""A `CLIPModel` of transformers behind `models.protocol.DualEncoder`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from torch import Tensor
from torchvision.transforms import Normalize
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from kt_exp.models.digest import digest_of
from kt_exp.models.preprocessing import Preprocessing
from kt_exp.models.protocol import Scorer
from kt_exp.models.similarity import embedding_scorer
from kt_exp.remote_code import loading
from kt_exp.store import signature

_TEXT_CHUNK = 256


class HuggingFaceClip:
    """A CLIP of transformers, in fp32.

    Args:
        network: frozen, and put into eval mode.
        tokenizer: of the same checkpoint.
        image_processor: of the same checkpoint; images are resized and cropped by it.
    """

    def __init__(self, network: Any, tokenizer: Any, image_processor: Any,
                 device: torch.device) -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._tokenizer, self._processor = tokenizer, image_processor
        self.device = device
        self.image_size = int(network.config.vision_config.image_size)
        self.max_text_tokens = int(network.config.text_config.max_position_embeddings)
        self._normalize = Normalize(image_processor.image_mean, image_processor.image_std)
        settings = image_processor.to_dict()
        self.to_tensor = Preprocessing(self._pixels, "transformers", transformers.__version__,
                                       {key: settings[key] for key in sorted(settings)
                                        if isinstance(settings[key], bool | int | str | dict)})

    @property
    def module(self) -> torch.nn.Module:
        return self._network

    @property
    def logit_scale(self) -> Tensor:
        return self._network.logit_scale.exp()

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        pixels = self._normalize(images.to(self.device))
        pooled = self._network.vision_model(pixel_values=pixels).pooler_output
        features = self._network.visual_projection(pooled)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, captions: Sequence[str], normalize: bool = True) -> Tensor:
        features = torch.cat([self._encode(captions[i:i + _TEXT_CHUNK])
                              for i in range(0, len(captions), _TEXT_CHUNK)])
        return F.normalize(features, dim=-1) if normalize else features

    def scorer(self, captions: Sequence[str], distance: str = "cosine") -> Scorer:
        return embedding_scorer(self, captions, distance)

    def score(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        return self.scorer(captions)(images)

    def towers(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        prefixes = {"visual": ("vision_model.", "visual_projection."),
                    "visual_projection": ("visual_projection.",),
                    "text": ("text_model.", "text_projection.")}
        named = dict(self._network.named_parameters())
        return {part: {name: p for name, p in named.items() if name.startswith(prefix)}
                for part, prefix in prefixes.items()}

    def count_tokens(self, caption: str) -> int:
        return len(self._tokenizer(caption, verbose=False).input_ids)

    def fingerprint(self) -> str:
        return signature([digest_of(self._network), self._network.config.to_json_string(),
                          self.to_tensor.signature])

    def export(self, folder: Path) -> None:
        for part in (self._network, self._tokenizer, self._processor):
            part.save_pretrained(folder)

    def _encode(self, captions: Sequence[str]) -> Tensor:
        # Padded to the full length, so that no caption depends on what else is in the batch.
        tokens = self._tokenizer(list(captions), padding="max_length", truncation=True,
                                 max_length=self.max_text_tokens, return_tensors="pt")
        pooled = self._network.text_model(**tokens.to(self.device)).pooler_output
        return self._network.text_projection(pooled)

    def _pixels(self, image: Image.Image) -> Tensor:
        return self._processor(image.convert("RGB"), do_normalize=False,
                               return_tensors="pt").pixel_values[0].clamp(0, 1)


def load_hugging_face_clip(folder: Path | str, device: torch.device) -> HuggingFaceClip:
    """Return the CLIP in a folder that `save_pretrained` wrote; nothing is fetched.

    Raises:
        UserError: a file is missing or damaged, or asks for code to be run.
    """
    parts = (CLIPModel, AutoTokenizer, AutoImageProcessor)
    with loading(folder, str(folder), "cannot be loaded by transformers",
                 "give a folder with a CLIPModel, its tokenizer and its image processor"):
        network, tokenizer, processor = (
            kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            for kind in parts)
    return HuggingFaceClip(network, tokenizer, processor, device)
