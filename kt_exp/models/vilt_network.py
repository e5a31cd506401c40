"""ViLT's transformer with the heads of its published checkpoints (Kim et al. 2021)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

import torch
from torch import Tensor, nn
from transformers import ViltConfig, ViltModel
from transformers.models.vilt.modeling_vilt import ViltPredictionHeadTransform

MATCH_HEADS = {"itm": "itm_score", "rank": "rank_output"}
MLM_HEAD = "mlm_score"
HEADS = (*MATCH_HEADS.values(), MLM_HEAD)
_TEXT, _IMAGE = 0, 1


class ViltNetwork(nn.Module):
    """A transformer over text and image tokens; parameters are named as in the checkpoints.

    To support padding, transformers' `ViltModel` shuffles an image's patches and loops over the
    images. Here all images have the model's own size: patches stay in order, and positions need no
    interpolation. The outputs are the same.

    Args:
        heads: any of `HEADS`: `itm_score`, two logits (no match, match); `rank_output`, one logit
            of a match; `mlm_score`, words.
    """

    def __init__(self, config: ViltConfig, heads: Collection[str]) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.vilt = ViltModel(config)
        if "itm_score" in heads:
            self.itm_score = nn.ModuleDict({"fc": nn.Linear(width, 2)})
        if "rank_output" in heads:
            self.rank_output = nn.Linear(width, 1)
        if MLM_HEAD in heads:
            self.mlm_score = nn.Sequential(OrderedDict(
                transform=ViltPredictionHeadTransform(config),
                decoder=nn.Linear(width, config.vocab_size)))

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Return the tokens of normalised images `(B, 3, H, W)`, class token first, `(B, P, C)`."""
        parts = self.vilt.embeddings
        patches = parts.patch_embeddings.projection(pixels).flatten(2).transpose(1, 2)
        first = parts.cls_token.expand(len(pixels), -1, -1)
        tokens = torch.cat([first, patches], dim=1) + parts.position_embeddings
        return parts.dropout(tokens) + parts.token_type_embeddings.weight[_IMAGE]

    def embed_text(self, ids: Tensor) -> Tensor:
        """Return the tokens of a text `(B, L)`, `(B, L, C)`."""
        parts = self.vilt.embeddings
        return parts.text_embeddings(input_ids=ids) + parts.token_type_embeddings.weight[_TEXT]

    def encode(self, text: Tensor, mask: Tensor, images: Tensor) -> Tensor:
        """Return the transformer's output for text `(B, L, C)` and image tokens `(B, P, C)`.

        `mask` `(B, L)` is 1 at real text tokens. The output is `(B, L + P, C)`, text first.
        """
        tokens = torch.cat([text, images], dim=1)
        hidden = torch.cat([mask == 0, mask.new_zeros(images.shape[:2], dtype=torch.bool)], dim=1)
        bias = torch.zeros_like(hidden, dtype=tokens.dtype)
        bias = bias.masked_fill(hidden, torch.finfo(tokens.dtype).min)[:, None, None]
        return self.vilt.layernorm(self.vilt.encoder(tokens, attention_mask=bias)[0])

    def match(self, text: Tensor, mask: Tensor, images: Tensor, head: str) -> Tensor:
        """Return the logits `(B, 2)` of no match and match, by the head `itm` or `rank`.

        The single logit of `rank` is the log-odds of a match, so the logit of no match is 0.
        """
        pooled = self.vilt.get_submodule("pooler")(self.encode(text, mask, images))
        if head == "itm":
            return self.itm_score["fc"](pooled)
        match = self.rank_output(pooled)
        return torch.cat([torch.zeros_like(match), match], dim=1)

    def predict_words(self, text: Tensor, mask: Tensor, images: Tensor) -> Tensor:
        """Return the logits of the word at each text token, `(B, L, V)`."""
        return self.mlm_score(self.encode(text, mask, images)[:, :text.shape[1]])
