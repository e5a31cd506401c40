"""Floating-point operations of the models at full size, counted without weights.

`torch.utils.flop_counter` counts matrix products, attention and convolutions, a multiplication and
an addition as two. The networks compute with random weights, on one image or two, except SAM, which
is on torch's meta device, where nothing is computed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import open_clip
import tiny_checkpoints as tiny
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoTokenizer,
    BertConfig,
    SamConfig,
    SamModel,
    SamVisionConfig,
    SwinConfig,
    ViltConfig,
)

from full_size.checkpoints import BIOMEDCLIP, CLINICAL_WORDS, OPEN_CLIP, SAM_HUGE, vocabulary
from kt_exp.benchmarks.segmentation.m2ib import saliency
from kt_exp.benchmarks.segmentation.settings import M2IBSettings
from kt_exp.concepts import Concept
from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.objectives import objective
from kt_exp.finetune.plan import plan_training
from kt_exp.finetune.settings import FinetuneSettings
from kt_exp.finetune.strategies import trained_parameters
from kt_exp.inversion.image_scorer import make_image_scorer
from kt_exp.inversion.settings import InversionSettings
from kt_exp.models.clip import kind_of
from kt_exp.models.coca import CocaModel
from kt_exp.models.medclip import MedClipModel
from kt_exp.models.medclip_network import MedClipNetwork
from kt_exp.models.protocol import Model
from kt_exp.models.vilt import ViLTModel
from kt_exp.models.vilt_network import ViltNetwork

_counted: dict[tuple[object, ...], float] = {}
CPU = torch.device("cpu")
# As long as the captions of the paper's concepts: 40 tokens at most.
CAPTION = ("A moongate is a perfectly circular archway built from uniformly cut stones or bricks, "
           "set into a larger wall that frames views of gardens.")


def count(way: Callable[[], object]) -> float:
    """Return the floating-point operations of `way`."""
    fast = torch.backends.mha.get_fastpath_enabled()
    # Fused attention of a CPU is not counted; the same by plain products is.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            way()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return float(counter.get_total_flops())


@lru_cache(maxsize=1)
def load(name: str) -> Any:
    """Return a model of the paper, an option of `model`, with random weights."""
    with tempfile.TemporaryDirectory() as scratch:
        return _BUILDERS[name](Path(scratch))


@cache
def image(name: str) -> float:
    """Return the operations that embed an image."""
    model = load(name)
    with torch.no_grad():
        return count(lambda: model.encode_image(_images(model, 1)))


@cache
def text(name: str) -> float:
    """Return the operations that embed a caption."""
    model = load(name)
    with torch.no_grad():
        return count(lambda: model.encode_text([CAPTION]))


@cache
def pair(name: str) -> float:
    """Return the operations that score an image with a caption, both embedded."""
    model = load(name)
    with torch.no_grad():
        images, captions = model.embed_images(_images(model, 1)), model.embed_captions([CAPTION])
        return count(lambda: model.match_block(images, captions))


def step(name: str, settings: InversionSettings) -> float:
    """Return the operations of a step of inversion, for each image."""
    key = name, settings.distance, repr(settings.speed)
    return _once(key, lambda: _step(name, settings))


def _step(name: str, settings: InversionSettings) -> float:
    model = load(name)
    model.module.requires_grad_(False)
    scorer = make_image_scorer(model, [CAPTION], replace(settings, sizes=[], upsize_at=[]), [])
    images = _images(model, 1).requires_grad_()
    return count(lambda: scorer(images, 0).sum().backward())


def training_step(name: str, settings: FinetuneSettings) -> float:
    """Return the operations of a step of fine-tuning, for each image of the batch."""
    key = name, settings.strategy, settings.loss, settings.caption_weight
    return _once(key, lambda: _training_step(name, settings))


def _training_step(name: str, settings: FinetuneSettings) -> float:
    model, images = load(name), 2
    model.module.requires_grad_(False)
    plan = plan_training([Concept("one", CAPTION), Concept("another", CAPTION)], [1, 1],
                         replace(settings, batch_size=images, epochs=1), [["a thing"]], 0)
    pixels = _images(model, images)
    if settings.loss == "mlm":
        masked = model.mask_words([CAPTION] * images, settings.mask_probability,
                                  torch.Generator().manual_seed(0))
        return _backward(model, settings, lambda: model.masked_lm_loss(pixels, masked)) / images
    loss = objective(model, pixels, pixels[:0], plan, settings, FeatureCache())
    return _backward(model, settings, lambda: loss(plan.batches[0])) / images


@cache
def caption(name: str, beams: int, tokens: int) -> float:
    """Return the operations that write a caption of `tokens` tokens, the start among them: as in
    `CocaModel`, each token needs a pass over all tokens before it."""
    network = load(name).module
    with torch.no_grad():
        _, seen = network._encode_image(_images(load(name), 1))

        def next_token(length: int) -> None:
            _, words = network.text(torch.zeros(beams, length, dtype=torch.long))
            network.text_decoder(seen.expand(beams, -1, -1), words)

        # Passes grow all but linearly with the tokens.
        first, last = (count(partial(next_token, length)) for length in (1, tokens - 1))
        return image(name) + (tokens - 1) * (first + last) / 2


def saliency_map(name: str, settings: M2IBSettings) -> float:
    """Return the operations of an image's map by M2IB."""
    return _once((name, repr(settings)), lambda: _saliency_map(name, settings))


def _saliency_map(name: str, settings: M2IBSettings) -> float:
    model = load(name)
    model.module.requires_grad_(False)
    with torch.no_grad():
        wanted = model.encode_text([CAPTION])[0]
    pixels = _images(model, 1)
    one, two = (count(partial(saliency, model, pixels, wanted, replace(settings, steps=steps)))
                for steps in (1, 2))
    return one + (settings.steps - 1) * (two - one)


@cache
def mask() -> float:
    """Return the operations of a mask by SAM ViT-H, from a box."""
    with torch.device("meta"), torch.no_grad():
        sam = SamModel(SamConfig(vision_config=SamVisionConfig(**SAM_HUGE))).requires_grad_(False)
        pixels, boxes = torch.empty(1, 3, 1024, 1024), torch.empty(1, 1, 4)
        return count(lambda: sam(pixel_values=pixels, input_boxes=boxes, multimask_output=False))


def _once(key: tuple[object, ...], way: Callable[[], float]) -> float:
    if key not in _counted:
        _counted[key] = way()
    return _counted[key]


def _backward(model: Model, settings: FinetuneSettings, loss: Callable[[], Tensor]) -> float:
    for parameter in trained_parameters(model, settings.strategy).values():
        parameter.requires_grad_(True)
    try:
        return count(lambda: loss().backward())
    finally:
        model.module.requires_grad_(False)


def _images(model: Model, number: int) -> Tensor:
    return torch.rand(number, 3, model.image_size, model.image_size)


def _open_clip(name: str) -> Callable[[Path], Any]:
    def build(folder: Path) -> Any:
        config = open_clip.get_model_config(name)
        network = tiny.open_clip_network(config, folder)
        kind = CocaModel if "multimodal_cfg" in config else kind_of(network.visual)
        return kind(network, open_clip.get_tokenizer(name), config, CPU)
    return build


def _biomedclip(folder: Path) -> Any:
    BertConfig(architectures=["BertModel"]).save_pretrained(folder)
    network = tiny.open_clip_network(BIOMEDCLIP, folder)
    tiny.write_bert_tokenizer(folder, vocabulary(BertConfig().vocab_size))
    tokenizer = open_clip.tokenizer.HFTokenizer(str(folder), context_length=256)
    return kind_of(network.visual)(network, tokenizer, BIOMEDCLIP, CPU)


def _vilt(folder: Path) -> ViLTModel:
    config = ViltConfig()
    network = ViltNetwork(config, ["itm_score", "mlm_score"])
    return ViLTModel(network, _bert_tokenizer(folder, config.vocab_size), "itm", "match", "crop",
                     CPU)


def _medclip(folder: Path) -> MedClipModel:
    configs = BertConfig(vocab_size=CLINICAL_WORDS), SwinConfig()
    return MedClipModel(MedClipNetwork(*configs), _bert_tokenizer(folder, CLINICAL_WORDS), configs,
                        "class", "bilinear", CPU)


def _bert_tokenizer(folder: Path, words: int) -> Any:
    return AutoTokenizer.from_pretrained(tiny.write_bert_tokenizer(folder, vocabulary(words)))


_BUILDERS: dict[str, Callable[[Path], Any]] = {
    **{model: _open_clip(name) for model, name in OPEN_CLIP.items()},
    "vilt": _vilt,
    "medclip": _medclip,
    "biomedclip": _biomedclip,
}
