"""CoCa (Yu et al. 2022) in open_clip: a dual encoder with a text decoder for captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.coca_model import CoCa
from torch import Tensor
from transformers import (
    GenerationConfig,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

from kt_exp.errors import UserError, did_you_mean
from kt_exp.models.clip import OpenClip, OpenClipTransformer
from kt_exp.models.loading import load_network
from kt_exp.models.protocol import GenerationSettings


@dataclass
class Coca(OpenClip):
    """Config of a CoCa in open_clip (`model=coca`, `model=coca_mscoco`)."""

    def load(self, device: torch.device, precision: str) -> CocaModel:
        """Return the model with its weights on `device`, in evaluation mode.

        Raises:
            UserError: the model is no CoCa, its tokenizer is not CLIP's, or its weights are not on
                this machine and cannot be downloaded.
        """
        network, tokenizer, architecture = load_network(self.name, self.pretrained)
        if not isinstance(network, CoCa):
            known = [name for name in open_clip.list_models() if name.startswith("coca_")]
            raise UserError("model.name", f"'{self.name}' is no CoCa: it has no text decoder",
                            did_you_mean(self.name, known) + " (or model=open_clip)")
        if not isinstance(tokenizer, open_clip.SimpleTokenizer):
            raise UserError("model.name", f"'{self.name}' has a tokenizer of its own; captions are "
                            "written with CLIP's only", "give coca_ViT-B-32 or coca_ViT-L-14")
        return CocaModel(network, tokenizer, architecture, device, precision)


class CocaModel(OpenClipTransformer):
    """An open_clip CoCa behind `models.protocol.Captioner`."""

    def towers(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        """Return the parameters of `visual`, `visual_projection`, `text` and `decoder`.

        The attentional pooler belongs to `visual`: in open_clip's CoCa one pooler serves both the
        embedding (its first query) and the captions (all others). `visual_projection` is the
        linear map of that first query into the joint space, `decoder` the multimodal text decoder
        alone. If the decoder is not trained, the caption loss reaches the visual tower only.
        """
        towers = super().towers()
        text = towers["text"]
        decoder = {name: p for name, p in text.items() if name.startswith("text_decoder.")}
        towers["text"] = {name: p for name, p in text.items() if name not in decoder}
        return {**towers, "decoder": decoder}

    def caption_loss(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Return the mean cross-entropy of each next token, a scalar in nats.

        As in `open_clip.loss.CoCaLoss`, the mean over the tokens of all captions, where
        supplementary Eq. 3 has their sum. The end token is included, padding left out.
        Differentiable in images and weights.
        """
        longest = max(self.count_tokens(caption) for caption in captions)
        # The text tower is causal: cutting off padding does not change the tokens before it.
        tokens = self._tokenizer(list(captions))[:, :longest].to(self.device)
        with self._autocast():
            out = self._network(self._normalize(images.to(self.device)), tokens)
        return F.cross_entropy(out["logits"].float().flatten(0, 1), out["labels"].flatten(),
                               ignore_index=self._network.pad_id)

    def generate(self, images: Tensor, settings: GenerationSettings) -> list[str]:
        """Return a caption of each image `(B, 3, H, W)`: clean text, without special tokens.

        Decoded by transformers' generation: `beam` (one beam: greedy), or `sample` from the most
        probable tokens whose probabilities add up to `top_p`. `max_tokens` and `min_tokens` count
        the start and the end token, as open_clip's `seq_len` and `min_seq_len` do. Each call seeds
        its sampling with `settings.seed` and restores the global random state.

        Raises:
            UserError: `max_tokens` exceeds the decoder's context length.
        """
        if settings.max_tokens > self.max_text_tokens:
            raise UserError("benchmark.generation.max_tokens", f"{settings.max_tokens} is more "
                            f"than the model's {self.max_text_tokens}", "lower it")
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.no_grad(), self._autocast(), torch.random.fork_rng(devices):
            torch.manual_seed(settings.seed)
            _, embeddings = self._network._encode_image(self._normalize(images.to(self.device)))
            start = torch.full((len(images), 1), self._tokenizer.sot_token_id, device=self.device)
            tokens = self._decoder.generate(start, image_embeddings=embeddings,
                                            generation_config=self._generation(settings))
        return [self._text(row) for row in tokens.tolist()]

    def _generation(self, settings: GenerationSettings) -> GenerationConfig:
        sampling = {"do_sample": True, "temperature": settings.temperature,
                    "top_p": settings.top_p, "top_k": 0}
        how = sampling if settings.method == "sample" else {"num_beams": settings.beams}
        return GenerationConfig(
            max_length=settings.max_tokens, min_length=settings.min_tokens, use_cache=False,
            eos_token_id=self._tokenizer.eot_token_id, pad_token_id=self._network.pad_id, **how,
        )

    def _text(self, tokens: list[int]) -> str:
        start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        written = tokens[: tokens.index(end)] if end in tokens else tokens
        text = self._tokenizer.decode([token for token in written if token != start])
        return " ".join(text.split())

    @cached_property
    def _decoder(self) -> _Decoder:
        return _Decoder(self._network)


class _Decoder(PreTrainedModel, GenerationMixin):
    """Adapter of a CoCa to transformers' generation: image embeddings and tokens → logits."""

    config_class = PretrainedConfig

    def __init__(self, network: CoCa) -> None:
        super().__init__(PretrainedConfig.from_dict({"vocab_size": network.text.vocab_size}))
        self.network = network

    def prepare_inputs_for_generation(self, input_ids: Tensor, image_embeddings: Tensor,
                                      **kwargs: Any) -> dict[str, Tensor]:
        return {"input_ids": input_ids, "image_embeddings": image_embeddings}

    def forward(self, input_ids: Tensor, image_embeddings: Tensor,
                **kwargs: Any) -> CausalLMOutput:
        """Return the logits `(B, L, vocabulary)` that follow each of `input_ids` `(B, L)`."""
        _, tokens = self.network.text(input_ids)
        return CausalLMOutput(logits=self.network.text_decoder(image_embeddings, tokens))
