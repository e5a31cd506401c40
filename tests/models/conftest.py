"""Tiny open_clip models with random weights, one of each architecture, as local-dir folders."""

import json
from copy import deepcopy

import open_clip
import pytest
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
TIMM = {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"}
# The network's own classifier is the projection, as in EVA and MobileCLIP.
CLASSIFIER = {**TIMM, "timm_pool": "token", "timm_proj": None}

ARCHITECTURES = {
    "vit": {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "resnet": {"embed_dim": 16, "vision_cfg": RESNET, "text_cfg": TEXT},
    "custom_text": {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT, "custom_text": True},
    "timm": {"embed_dim": 16, "vision_cfg": TIMM, "text_cfg": TEXT, "custom_text": True},
    "timm_classifier": {"embed_dim": 16, "vision_cfg": CLASSIFIER, "text_cfg": TEXT,
                        "custom_text": True},
}


def build(architecture):
    torch.manual_seed(0)
    settings = deepcopy(architecture)
    custom = settings.pop("custom_text", False)
    return (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**settings)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders in open_clip's local-dir format, by architecture."""
    made = {}
    for name, architecture in ARCHITECTURES.items():
        made[name] = tmp_path_factory.mktemp(name)
        save_file(build(architecture).state_dict(), made[name] / "open_clip_model.safetensors")
        config = {"model_cfg": architecture, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3]}}
        (made[name] / "open_clip_config.json").write_text(json.dumps(config))
    return made


@pytest.fixture(scope="session")
def built_in(tmp_path_factory):
    """The name of an architecture that open_clip knows, and a checkpoint of it."""
    folder = tmp_path_factory.mktemp("built_in")
    (folder / "tiny-quickgelu.json").write_text(json.dumps(ARCHITECTURES["vit"]))
    open_clip.add_model_config(folder / "tiny-quickgelu.json")
    torch.save({"state_dict": build(ARCHITECTURES["vit"]).state_dict()}, folder / "tiny.pt")
    return "tiny-quickgelu", str(folder / "tiny.pt")
