"""Tiny models with random weights, one of each architecture, in the formats of the real ones."""

import json
import zlib
from pathlib import Path

import convert_biomedclip
import numpy as np
import open_clip
import pytest
import record_medclip
import tiny_checkpoints as tiny
import torch
from safetensors import safe_open


@pytest.fixture(scope="session")
def folders(tmp_path_factory, bert):
    """Folders in open_clip's local-dir format, by architecture."""
    return {name: tiny.write_open_clip(tmp_path_factory.mktemp(name), name, bert)
            for name in tiny.ARCHITECTURES}


@pytest.fixture(scope="session")
def built_in(tmp_path_factory):
    """The name of an architecture that open_clip knows, and a checkpoint of it."""
    folder = tmp_path_factory.mktemp("built_in")
    vit = tiny.ARCHITECTURES["vit"]
    (folder / "tiny-quickgelu.json").write_text(json.dumps(vit))
    open_clip.add_model_config(folder / "tiny-quickgelu.json")
    network = tiny.open_clip_network(vit, folder)
    torch.save({"state_dict": network.state_dict()}, folder / "tiny.pt")
    return "tiny-quickgelu", str(folder / "tiny.pt")


@pytest.fixture(scope="session")
def vilt_folders(tmp_path_factory):
    """Checkpoints as those published: pre-trained, and fine-tuned for retrieval."""
    states = {"itm": tiny.vilt_state("itm_score", "mlm_score"),
              "rank": tiny.vilt_state("rank_output")}
    return {name: tiny.write_vilt(tmp_path_factory.mktemp(name), state)
            for name, state in states.items()}


@pytest.fixture(scope="session")
def vilt_state():
    return tiny.vilt_state


@pytest.fixture(scope="session")
def write_vilt():
    return tiny.write_vilt


@pytest.fixture(scope="session")
def medclip_script():
    """The script that recorded what the package `medclip` computes."""
    return record_medclip


@pytest.fixture(scope="session")
def converter():
    """The script that converts the BiomedCLIP of MedCLIP-SAMv2."""
    return convert_biomedclip


@pytest.fixture(scope="session")
def medclip_configs(tmp_path_factory) -> tuple[Path, Path]:
    return tiny.write_medclip_configs(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="session")
def bert(medclip_configs):
    """A folder with the configuration and vocabulary of a small BERT."""
    return medclip_configs[0]


@pytest.fixture(scope="session")
def swin(medclip_configs):
    """A folder with the configuration of a small Swin."""
    return medclip_configs[1]


@pytest.fixture(scope="session")
def medclip_weights(tmp_path_factory):
    """MedCLIP's checkpoints in the published layout, by image tower."""
    return {kind: tiny.write_medclip(tmp_path_factory.mktemp(kind), kind)
            for kind in ("swin", "resnet")}


LITE0 = Path(__file__).parent / "data" / "effnet_lite0.safetensors"


@pytest.fixture(scope="session")
def recorded_lite0():
    """What kt_exp 0.1.0's own EfficientNet-Lite0 computed, of `lite0_state` (`made.*`) and of the
    packaged checkpoint (`packaged.*`); see test_effnet_lite0.py."""
    with safe_open(LITE0, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.fixture(scope="session")
def lite0_state():
    """Weights of EfficientNet-Lite0 under the names of the packaged checkpoint."""
    with safe_open(LITE0, "pt") as file:
        shapes = json.loads(file.metadata()["shapes"])
    return {name: weights_from_name(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def lite0_projection():
    return weights_from_name("projection", [64, 1280])


def weights_from_name(name: str, shape: list[int]) -> torch.Tensor:
    """Return the same weights on every machine, of a size that keeps activations alive."""
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.tensor(0)
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if kind == "running_var":
        noise = np.exp(noise / 4)
    elif len(shape) > 1:
        noise = noise * (2 / np.prod(shape[1:])) ** 0.5
    else:
        noise = noise / 4 + (kind == "weight")
    return torch.tensor(noise, dtype=torch.float32)
