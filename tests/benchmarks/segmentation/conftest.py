"""Real images with masks, PictoCLIP, tiny random models, and the benchmark as the config has it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

from kt_exp.benchmarks.segmentation.settings import M2IBSettings
from kt_exp.config import conf_folder
from kt_exp.pictograms.weights import PictoClip
from kt_exp.plugins import build

torch.set_num_threads(1)

PAIRS = Path(__file__).parent / "pairs"
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def pictoclip():
    """A trained CLIP of 64 px with five layers and 64 patches."""
    return PictoClip().load(CPU, "fp32")


@pytest.fixture
def pairs(tmp_path):
    """A folder with two real pairs for each of two concepts, free to be damaged."""
    return Path(shutil.copytree(PAIRS, tmp_path / "pairs"))


@pytest.fixture
def m2ib():
    return M2IBSettings(layer=2, beta=1.0, var=1.0, alpha=5.0, lr=1.0, steps=10, draws=10, seed=0)


@pytest.fixture
def load():
    """Builds a benchmark from conf/benchmark, with a few steps of M2IB and no SAM by default."""

    def build_it(name="segmentation", **keys):
        config = OmegaConf.load(Path(conf_folder()) / "benchmark" / "segmentation.yaml")
        preset = OmegaConf.load(Path(conf_folder()) / "benchmark" / f"{name}.yaml")
        preset.pop("defaults", None)
        small = {"sam": None, "m2ib": {"layer": 2, "steps": 2, "draws": 2}}
        return build(OmegaConf.merge(config, preset, small, keys), "benchmark")

    return build_it


@pytest.fixture(scope="session")
def tiny_sam(tmp_path_factory):
    """A SAM of 64 px with random weights, as transformers saves it."""
    folder = tmp_path_factory.mktemp("sam")
    torch.manual_seed(0)
    SamModel(SamConfig(
        vision_config={"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "image_size": 64, "patch_size": 8, "mlp_dim": 32,
                       "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 8},
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8,
                               "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1,
                             "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )).save_pretrained(folder)
    SamProcessor(SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 16}, mask_pad_size={"height": 16, "width": 16},
    )).save_pretrained(folder)
    return folder
