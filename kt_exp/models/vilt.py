"""ViLT (Kim et al. 2021): one transformer over words and patches, for image–text matching."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    Resize,
    ToTensor,
)
from transformers import ViltImageProcessor

from kt_exp.atomic import save_tensors
from kt_exp.config.checks import choice
from kt_exp.errors import UserError
from kt_exp.models.digest import digest_of
from kt_exp.models.masking import mask_whole_words
from kt_exp.models.preprocessing import Preprocessing
from kt_exp.models.protocol import EmbeddedCaptions, MaskedCaptions, Scorer
from kt_exp.models.vilt_loading import WEIGHTS_FILES, check_vilt, load_vilt
from kt_exp.models.vilt_network import HEADS, MATCH_HEADS, MLM_HEAD, ViltNetwork

# Batch size of `match_block`.
_PAIRS_AT_ONCE = 128
_MEAN = _STD = (0.5, 0.5, 0.5)
# What the shapes of the weights do not show of an architecture.
_SETTINGS = ("num_attention_heads", "hidden_act", "layer_norm_eps", "hidden_dropout_prob",
             "attention_probs_dropout_prob")
_DECODER = "mlm_score.decoder.weight"


@dataclass(kw_only=True)
class ViLT:
    """Config of a ViLT checkpoint (`model=vilt` and the presets made from it)."""

    name: str
    tokenizer: Optional[str]
    head: str = choice("auto", "itm", "rank")
    rank_by: str = choice("match", "log_odds")
    resize: str = choice("crop", "squash")

    def load(self, device: torch.device, precision: str) -> ViLTModel:
        """Return the model with its weights on `device`, in evaluation mode.

        Raises:
            UserError: weights or tokenizer that are not on this machine and cannot be downloaded, a
                checkpoint of another architecture, or one without the wanted head.
        """
        network, tokenizer = load_vilt(self.name, self.tokenizer)
        return ViLTModel(network, tokenizer, self._match_head(network), self.rank_by,
                         self.resize, device, precision)

    def check_files(self) -> None:
        """Check that weights and tokenizer are here or can be fetched, without loading them.

        Raises:
            UserError: they are not.
        """
        check_vilt(self.name, self.tokenizer)

    def _match_head(self, network: ViltNetwork) -> str:
        found = [head for head, module in MATCH_HEADS.items() if hasattr(network, module)]
        if not found:
            raise UserError("model.name", f"{self.name} has no head for image–text matching",
                            "give a checkpoint with itm_score or rank_output, as "
                            "dandelin/vilt-b32-mlm-itm")
        if self.head not in ("auto", *found):
            raise UserError("model.head", f"{self.name} has no '{self.head}'",
                            f"it has: {', '.join(found)}")
        return found[0] if self.head == "auto" else self.head


class ViLTModel:
    """A ViLT network behind `models.protocol.PairMatcher`.

    Args:
        tokenizer: BERT's, from transformers.
        head: `itm` (two logits) or `rank` (one, the log-odds of a match).
        rank_by: score of a pair among others, of the head `itm`: its `match` logit, or the
            `log_odds`, from which the logit of no match is subtracted.
        resize: how an image becomes square: `crop` its centre, or `squash` it to the size.
        precision: `fp32`, or `bf16` for autocast.
    """

    def __init__(self, network: ViltNetwork, tokenizer: Any, head: str, rank_by: str,
                 resize: str, device: torch.device, precision: str = "fp32") -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._tokenizer, self._head, self._rank_by = tokenizer, head, rank_by
        self._resize, self._precision = resize, precision
        self.device = device
        size = network.config.image_size
        assert isinstance(size, int)
        self.image_size = size
        self.max_text_tokens = network.config.max_position_embeddings
        self._normalize = Normalize(_MEAN, _STD)
        self.to_tensor = _to_tensor(self.image_size, resize)

    @property
    def module(self) -> torch.nn.Module:
        return self._network

    def match(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        return self._match(self.embed_images(images), self.embed_captions(captions))

    def scorer(self, captions: Sequence[str], distance: str = "match") -> Scorer:
        if distance != "match":
            raise UserError("inversion.distance", f"ViLT has no embeddings to take '{distance}' of",
                            "choose match")
        with torch.no_grad():
            embedded = self.embed_captions(captions)

        def score(images: Tensor) -> Tensor:
            return F.log_softmax(self._match(self.embed_images(images), embedded), dim=1)[:, 1]

        return score

    def score(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        return self.scorer(captions)(images)

    def embed_images(self, images: Tensor) -> Tensor:
        with self._autocast():
            return self._network.embed_images(self._normalize(images.to(self.device))).float()

    def embed_captions(self, captions: Sequence[str]) -> EmbeddedCaptions:
        tokens = self._tokenize(captions)
        with self._autocast():
            embedded = self._network.embed_text(tokens["input_ids"])
        return EmbeddedCaptions(embedded.float(), tokens["attention_mask"])

    def match_block(self, images: Tensor, captions: EmbeddedCaptions) -> Tensor:
        many = len(captions.tokens)
        pairs = torch.arange(len(images) * many, device=images.device)
        logits = []
        for chunk in pairs.split(_PAIRS_AT_ONCE):
            image, caption = chunk // many, chunk % many
            of_captions = EmbeddedCaptions(captions.tokens[caption], captions.mask[caption])
            logits.append(self._match(images[image], of_captions))
        no_match, match = torch.cat(logits).unbind(dim=1)
        scores = match if self._rank_by == "match" else match - no_match
        return scores.view(len(images), many)

    def mask_words(self, captions: Sequence[str], probability: float,
                   generator: torch.Generator) -> MaskedCaptions:
        self._require_words()
        tokens = self._tokenize(captions)
        return mask_whole_words(self._tokenizer, tokens["input_ids"], tokens["attention_mask"],
                                probability, generator)

    def masked_lm_loss(self, images: Tensor, masked: MaskedCaptions) -> Tensor:
        self._require_words()
        ids, mask, labels = (part.to(self.device) for part in masked)
        patches = self.embed_images(images)
        with self._autocast():
            text = self._network.embed_text(ids)
            logits = self._network.predict_words(text, mask, patches)
        return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())

    def towers(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        named = dict(self._network.named_parameters())
        text = {n: p for n, p in named.items() if n.startswith("vilt.embeddings.text_embeddings.")}
        heads = {n: p for n, p in named.items() if n.split(".")[0] in HEADS}
        return {
            "visual": {n: p for n, p in named.items() if n not in text and n not in heads},
            "visual_projection": {},
            "text": text,
            "heads": heads,
        }

    def count_tokens(self, caption: str) -> int:
        return len(self._tokenizer(caption, verbose=False).input_ids)

    def fingerprint(self) -> str:
        config = self._network.config.to_dict()
        settings = [{name: config[name] for name in _SETTINGS}, self._head, self._resize,
                    self._precision, self._tokenizer.get_vocab()]
        if self._rank_by != "match":  # Inversion and fine-tuning rank nothing.
            settings.append(self._rank_by)
        return digest_of(self._network, json.dumps(settings, sort_keys=True))

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = dict(self._network.state_dict())
        if _DECODER not in dict(self._network.named_parameters()):
            state.pop(_DECODER, None)  # Tied to the word embeddings.
        save_tensors(folder / WEIGHTS_FILES[0], state, {"format": "pt"})
        self._network.config.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
        ViltImageProcessor(size={"shortest_edge": self.image_size}).save_pretrained(folder)

    def _match(self, images: Tensor, captions: EmbeddedCaptions) -> Tensor:
        with self._autocast():
            logits = self._network.match(captions.tokens, captions.mask, images, self._head)
        return logits.float()

    def _tokenize(self, captions: Sequence[str]) -> Any:
        return self._tokenizer(list(captions), padding=True, truncation=True,
                               max_length=self.max_text_tokens, return_tensors="pt"
                               ).to(self.device)

    def _require_words(self) -> None:
        if not hasattr(self._network, MLM_HEAD):
            raise UserError("model.name", "the checkpoint has no head for masked words (mlm_score)",
                            "give one that has, as dandelin/vilt-b32-mlm-itm")

    def _autocast(self) -> AbstractContextManager:
        enabled = self._precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


def _to_tensor(size: int, resize: str) -> Preprocessing:
    cubic = InterpolationMode.BICUBIC
    steps = [Resize((size, size), cubic)] if resize == "squash" \
        else [Resize(size, cubic), CenterCrop(size)]
    return Preprocessing(Compose([_rgb, *steps, ToTensor()]), "ViLT", resize, size)


def _rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")
