"""The models of the benchmark: the packaged one, and CLIP's shapes with random weights."""

from __future__ import annotations

import logging

import open_clip
import torch

from kt_exp.config import Config
from kt_exp.models.clip import OpenClipPlainViT
from kt_exp.models.factory import load_model

NAMES = ("pictoclip", "ViT-B-32", "ViT-L-14")


def load(name: str, config: Config, device: torch.device, precision: str) -> OpenClipPlainViT:
    """Return the config's own model for `pictoclip`, or an open_clip shape: speed asks for no
    trained weights."""
    if name == "pictoclip":
        model = load_model(config.model, device, precision)
        assert isinstance(model, OpenClipPlainViT)
        return model
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns that the weights are random.
    torch.manual_seed(0)
    network = open_clip.create_model(f"{name}-quickgelu", precision="fp32")
    architecture = open_clip.get_model_config(f"{name}-quickgelu")
    tokenizer = open_clip.get_tokenizer(name)
    return OpenClipPlainViT(network, tokenizer, architecture, device, precision)
