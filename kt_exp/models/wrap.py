"""Networks of other libraries behind `models.protocol.DualEncoder`, as they are in memory."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import open_clip
import torch
from open_clip.transformer import QuickGELU
from transformers import AutoProcessor, CLIPModel

from kt_exp.errors import UserError, did_you_mean
from kt_exp.models.clip import OpenClipModel, kind_of
from kt_exp.models.hugging_face_clip import HuggingFaceClip
from kt_exp.models.lean_vit import can_run_lean
from kt_exp.remote_code import loading

OPENAI_VOCABULARY = 49408


def wrap_open_clip(network: Any, tokenizer: Any, architecture: str | None,
                   device: torch.device) -> OpenClipModel:
    """Return a copy of an open_clip network, in eval mode, behind the protocol.

    Args:
        tokenizer: what `open_clip.get_tokenizer` returns for it; None: OpenAI's.
        architecture: its name in open_clip; None: read from the network, if it is a plain ViT.

    Raises:
        UserError: the network is not in fp32, its vocabulary is not OpenAI's and there is no
            tokenizer, or its architecture is unknown.
    """
    if any(p.dtype != torch.float32 for p in network.parameters()):
        raise UserError("model", "is not in fp32", "give model.float()")
    if tokenizer is None:
        if getattr(network, "vocab_size", OPENAI_VOCABULARY) != OPENAI_VOCABULARY:
            raise UserError("tokenizer", "missing: the model's vocabulary is not OpenAI's",
                            "give open_clip.get_tokenizer(NAME)")
        tokenizer = open_clip.SimpleTokenizer(context_length=network.context_length)
    config = _named_config(architecture) if architecture else _config_of(network)
    return kind_of(network.visual)(deepcopy(network), tokenizer, config, device)


def wrap_hugging_face(network: CLIPModel, processor: Any, device: torch.device) -> HuggingFaceClip:
    """Return a copy of a `CLIPModel`, in eval mode, behind the protocol.

    Args:
        processor: its `CLIPProcessor`; None: that of the checkpoint it was loaded from.

    Raises:
        UserError: the model is not in fp32, or there is no processor.
    """
    if any(p.dtype != torch.float32 for p in network.parameters()):
        raise UserError("model", "is not in fp32", "load it with dtype=torch.float32")
    if processor is None:
        source = str(network.config.name_or_path)
        with loading(source, "processor",
                     f"missing, and '{source}' has none that can be loaded",
                     "give the model's CLIPProcessor: processor=…"):
            processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
    return HuggingFaceClip(deepcopy(network), processor.tokenizer, processor.image_processor,
                           device)


def _named_config(name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(name.replace("/", "-"))
    if config is None:
        raise UserError("architecture", f"open_clip has no model '{name}'",
                        did_you_mean(name, open_clip.list_models()))
    return config


def _config_of(network: Any) -> dict[str, Any]:
    """Return the `model_cfg` of a network with a plain ViT and CLIP's text tower."""
    visual = network.visual
    if not (type(network) is open_clip.CLIP and can_run_lean(visual)):
        raise UserError("architecture", "missing: it cannot be read from this network",
                        "give its name in open_clip: architecture=…")
    image, text = (tower.resblocks[0] for tower in (visual.transformer, network.transformer))
    width = image.attn.embed_dim
    return {
        "embed_dim": visual.proj.shape[1],
        "quick_gelu": isinstance(image.mlp.gelu, QuickGELU),
        "vision_cfg": {
            "image_size": visual.image_size[0], "patch_size": visual.patch_size[0],
            "width": width, "layers": len(visual.transformer.resblocks),
            "head_width": width // image.attn.num_heads,
            "mlp_ratio": image.mlp.c_fc.out_features / width},
        "text_cfg": {
            "context_length": network.context_length, "vocab_size": network.vocab_size,
            "width": text.attn.embed_dim, "heads": text.attn.num_heads,
            "layers": len(network.transformer.resblocks)},
    }
