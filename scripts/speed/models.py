"""The models of the benchmark: the packaged one, and CLIP's shapes with random weights."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from tiny_checkpoints import vilt_state, write_vilt
from transformers import ViltConfig

from kt_exp.models import vilt_loading
from kt_exp.models.clip import OpenClipPlainViT
from kt_exp.models.factory import load_model
from kt_exp.models.protocol import DualEncoder
from kt_exp.models.vilt import ViLTModel
from kt_exp.models.vilt_network import ViltNetwork
from kt_exp.schema import Config

# What the config is when a model is measured; random weights where it says nothing of one.
RECIPE = ["inversion=fast", "finetune=pictograms"]
OVERRIDES = {"pictoclip": RECIPE, "effnet_minilm": ["experiment=photos"], "ViT-B-32": RECIPE,
             "ViT-L-14": RECIPE}


def overrides(model: str, given: Sequence[str] = ()) -> list[str]:
    """Return the overrides with which a model is measured; an option that is given counts."""
    options = {word.partition("=")[0] for word in given}
    return [*(word for word in OVERRIDES[model] if word.partition("=")[0] not in options), *given]


def load_vilt(device: torch.device, precision: str) -> ViLTModel:
    """Return a ViLT-B/32 with random weights and a tokenizer of letters."""
    torch.manual_seed(0)
    network = ViltNetwork(ViltConfig(), ["itm_score"])
    with tempfile.TemporaryDirectory() as folder:
        small = write_vilt(Path(folder), vilt_state("itm_score"))
        _, tokenizer = vilt_loading.load_vilt(str(small), None)
    return ViLTModel(network, tokenizer, "itm", "match", "crop", device, precision)


def load(name: str, config: Config, device: torch.device, precision: str) -> DualEncoder:
    """Return the config's own model, or an open_clip shape: speed asks for no trained weights."""
    if name in ("pictoclip", "effnet_minilm"):
        model = load_model(config.model, device, precision)
        assert isinstance(model, DualEncoder)
        return model
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns that the weights are random.
    torch.manual_seed(0)
    network = open_clip.create_model(f"{name}-quickgelu", precision="fp32")
    architecture = open_clip.get_model_config(f"{name}-quickgelu")
    tokenizer = open_clip.get_tokenizer(name)
    return OpenClipPlainViT(network, tokenizer, architecture, device, precision)
