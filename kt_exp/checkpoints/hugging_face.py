"""Write an open_clip network as a `CLIPModel`, with its tokenizer and image processor.

Both libraries compute the same function; names and layouts of the weights differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from kt_exp.errors import UserError
from kt_exp.models.clip import OpenClipModel
from kt_exp.models.lean_vit import can_run_lean
from kt_exp.models.protocol import Model

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_START, _END = "<|startoftext|>", "<|endoftext|>"  # OpenAI's spelling, which CLIPTokenizer expects


def export_hugging_face(model: Model, folder: Path) -> None:
    """Write `model` so that `CLIPModel`, `AutoTokenizer` and `AutoImageProcessor` load `folder`.

    Raises:
        UserError: the model is none of open_clip, or one that `CLIPModel` cannot express.
    """
    if not isinstance(model, OpenClipModel):
        raise UserError("--format", f"{type(model).__name__} is no CLIP of open_clip, which a "
                        "CLIPModel could express", "use --format native")
    if problem := next(_problems(model), None):
        raise UserError("--format", f"a CLIPModel cannot express this model: {problem}",
                        "use --format open_clip")
    folder.mkdir(parents=True, exist_ok=True)
    end = _write_tokenizer(model, folder)
    clip_model(model.module, end).save_pretrained(folder)
    _image_processor(model).save_pretrained(folder)


def clip_model(network: Any, end_of_text: int) -> CLIPModel:
    """Return the `CLIPModel` that computes what an open_clip `network` does, in fp32, eval mode.

    Args:
        end_of_text: id of the token whose output is the text's embedding.
    """
    text = _text_tower(network)
    config = CLIPConfig(
        projection_dim=network.visual.proj.shape[1],
        vision_config=_sizes(network.visual.transformer, network.visual.ln_post) | {
            "image_size": network.visual.image_size[0],
            "patch_size": network.visual.patch_size[0]},
        text_config=_sizes(text.transformer, text.ln_final) | {
            "vocab_size": text.token_embedding.num_embeddings,
            "max_position_embeddings": text.positional_embedding.shape[0],
            "eos_token_id": end_of_text, "bos_token_id": None, "pad_token_id": None})
    made = CLIPModel(config)
    state = {name: tensor.detach().float().cpu() for name, tensor in _renamed(network)}
    made.load_state_dict(state, strict=False)
    if lacking := {name for name, _ in made.named_parameters()} ^ state.keys():
        raise RuntimeError(f"parameters without a counterpart: {sorted(lacking)}")
    return made.eval()


def _problems(model: OpenClipModel) -> Iterator[str]:
    """Yield what of the network has no counterpart in `CLIPModel`."""
    network: Any = model.module
    if not can_run_lean(network.visual) or isinstance(network.visual.ln_pre, nn.Identity):
        yield "its image tower is no plain ViT with a projection"
    text = _text_tower(network)
    if not hasattr(text, "token_embedding") or getattr(text, "cls_emb", None) is not None:
        yield "its text tower is not CLIP's"
        return
    if getattr(network, "text_pool_type", getattr(text, "pool_type", "")) != "argmax":
        yield "its text tower does not read the embedding at the end token"
    if getattr(network, "attn_mask", getattr(text, "attn_mask", None)) is None:
        yield "its text tower is not causal"
    if getattr(network, "logit_bias", None) is not None:
        yield "it has a logit bias"
    for tower in (network.visual.transformer, text.transformer):
        for block in tower.resblocks:
            if type(block) is not ResidualAttentionBlock \
                    or not isinstance(block.ls_1, nn.Identity) \
                    or not isinstance(block.mlp.gelu, nn.GELU | QuickGELU):
                yield "its layers are no plain transformer blocks"
    if model.preprocessing.resize_mode != "shortest":
        yield f"images are resized by '{model.preprocessing.resize_mode}', not to the shortest side"


def _text_tower(network: Any) -> Any:
    return getattr(network, "text", network)


def _sizes(transformer: Any, norm: nn.LayerNorm) -> dict[str, Any]:
    block = transformer.resblocks[0]
    width = block.attn.embed_dim
    return {"hidden_size": width, "intermediate_size": block.mlp.c_fc.out_features,
            "num_hidden_layers": len(transformer.resblocks),
            "num_attention_heads": block.attn.num_heads, "layer_norm_eps": norm.eps,
            "hidden_act": _activation(block.mlp.gelu)}


def _activation(function: nn.Module) -> str:
    if isinstance(function, QuickGELU):
        return "quick_gelu"
    return "gelu_pytorch_tanh" if getattr(function, "approximate", "none") == "tanh" else "gelu"


def _renamed(network: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of an open_clip network under the names of `CLIPModel`."""
    visual, text = network.visual, _text_tower(network)
    yield "logit_scale", network.logit_scale.reshape(())
    yield "visual_projection.weight", visual.proj.T
    projection = text.text_projection
    yield "text_projection.weight", \
        projection.weight if isinstance(projection, nn.Linear) else projection.T
    images, texts = "vision_model.embeddings", "text_model.embeddings"
    yield f"{images}.class_embedding", visual.class_embedding
    yield f"{images}.patch_embedding.weight", visual.conv1.weight
    yield f"{images}.position_embedding.weight", visual.positional_embedding
    yield f"{texts}.token_embedding.weight", text.token_embedding.weight
    yield f"{texts}.position_embedding.weight", text.positional_embedding
    for name, norm in (("vision_model.pre_layrnorm", visual.ln_pre),  # sic
                       ("vision_model.post_layernorm", visual.ln_post),
                       ("text_model.final_layer_norm", text.ln_final)):
        yield from _named(name, norm)
    for tower, transformer in (("vision_model", visual.transformer),
                               ("text_model", text.transformer)):
        for number, block in enumerate(transformer.resblocks):
            yield from _layer(f"{tower}.encoder.layers.{number}", block)


def _layer(name: str, block: Any) -> Iterator[tuple[str, Tensor]]:
    weights, biases = block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3)
    for part, weight, bias in zip("qkv", weights, biases, strict=True):
        yield f"{name}.self_attn.{part}_proj.weight", weight
        yield f"{name}.self_attn.{part}_proj.bias", bias
    for theirs, ours in (("self_attn.out_proj", block.attn.out_proj), ("layer_norm1", block.ln_1),
                         ("layer_norm2", block.ln_2), ("mlp.fc1", block.mlp.c_fc),
                         ("mlp.fc2", block.mlp.c_proj)):
        yield from _named(f"{name}.{theirs}", ours)


def _named(name: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from ((f"{name}.{part}", tensor) for part, tensor in module.named_parameters())


def _write_tokenizer(model: OpenClipModel, folder: Path) -> int:
    """Write the tokenizer; return the id of its end token.

    Raises:
        UserError: the end token is not the last id, by which open_clip finds it.
    """
    tokenizer = model.tokenizer
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        theirs = _clip_tokenizer(tokenizer, folder, model.max_text_tokens)
    else:
        theirs = tokenizer.tokenizer
        theirs.model_max_length = model.max_text_tokens
        theirs.save_pretrained(folder)
    end = theirs.eos_token_id
    if end is None or end != max(theirs.get_vocab().values()):
        raise UserError("--format", "the tokenizer's end token is not its last one, by which "
                        "open_clip finds it", "use --format open_clip")
    return int(end)


def _clip_tokenizer(tokenizer: Any, folder: Path, length: int) -> Any:
    """Write OpenAI's vocabulary, as open_clip ships it, as a `CLIPTokenizer`; return that."""
    vocabulary = dict(tokenizer.encoder)
    for theirs, ours in ((_START, tokenizer.sot_token_id), (_END, tokenizer.eot_token_id)):
        vocabulary = {word: i for word, i in vocabulary.items() if i != ours} | {theirs: ours}
    merges = [" ".join(pair) for pair in tokenizer.bpe_ranks]
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    made = CLIPTokenizer.from_pretrained(folder, model_max_length=length)
    made.save_pretrained(folder)
    return made


def _image_processor(model: OpenClipModel) -> CLIPImageProcessor:
    settings = model.preprocessing
    return CLIPImageProcessor(
        size={"shortest_edge": model.image_size},
        crop_size={"height": model.image_size, "width": model.image_size},
        resample=int(_RESAMPLING[settings.interpolation]),
        image_mean=list(settings.mean), image_std=list(settings.std), do_convert_rgb=True)
