"""Tiny CLIPs with random weights, a ViT and a ResNet, and settings to fine-tune them."""

import open_clip
import pytest
import torch

from kt_exp.finetune.settings import FinetuneSettings
from kt_exp.models.clip import OpenClipModel

torch.set_num_threads(1)

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VISION = {
    "vit": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 4},
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
}
SETTINGS = {
    "strategy": "visual", "scope": "each", "images": "inverted", "folder": None,
    "captions": "named", "templates": ["a photo of a {}."], "loss": "ntxent", "temperature": 0.07,
    "contrastive_weight": 1.0, "caption_weight": 0.0, "caption_targets": [],
    "itm_negatives": "concepts", "itm_negatives_per_image": 1, "mask_probability": 0.15,
    "maskings": 10,
    "distillation": 0.0, "rehearsal": 0.0, "rehearsal_per_class": 1, "rehearsal_batch": 2,
    "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "betas": [0.9, 0.98], "eps": 1e-6,
    "batch_size": 4, "epochs": 1, "mode": "eval", "save_models": False,
}


def build(kind):
    architecture = {"embed_dim": 16, "vision_cfg": VISION[kind], "text_cfg": TEXT}
    torch.manual_seed(0)
    return OpenClipModel(open_clip.CLIP(**architecture),
                         open_clip.SimpleTokenizer(context_length=16), architecture,
                         torch.device("cpu"))


@pytest.fixture(scope="session")
def vit():
    return build("vit")


@pytest.fixture(scope="session")
def resnet():
    return build("resnet")


@pytest.fixture
def settings():
    """Makes settings: the ones above, with the changes that a test names."""
    return lambda **changes: FinetuneSettings(**{**SETTINGS, **changes})
