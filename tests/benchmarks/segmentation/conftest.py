"""Real images with masks, PictoCLIP, tiny random models, and the benchmark as the config has it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from fixtures.configs import preset
from omegaconf import OmegaConf
from tiny_checkpoints import write_sam

from kt_exp.benchmarks.segmentation.settings import M2IBSettings
from kt_exp.config.plugins import build
from kt_exp.pictograms.weights import PictoClip

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
        small = preset("benchmark", name, sam=None, m2ib={"layer": 2, "steps": 2, "draws": 2})
        return build(OmegaConf.merge(small, keys), "benchmark")

    return build_it


@pytest.fixture(scope="session")
def tiny_sam(tmp_path_factory):
    """A SAM of 64 px with random weights, as transformers saves it."""
    return write_sam(tmp_path_factory.mktemp("sam"))
