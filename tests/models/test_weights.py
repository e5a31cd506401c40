"""Weights between those of a model and fine-tuned ones."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from kt_exp.models.weights import Weights


@dataclass
class Tiny:
    module: nn.Module


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Tiny(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval())


@pytest.fixture
def finetuned(model):
    state = model.module.state_dict()
    return Weights("tuned", {name: state[name] + 1 for name in
                             ("0.weight", "1.running_mean", "1.num_batches_tracked")})


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_weights_lie_on_the_line(model, finetuned, share):
    mixed = finetuned.interpolated(model, share)
    state = model.module.state_dict()
    for name in ("0.weight", "1.running_mean"):
        torch.testing.assert_close(mixed.changes[name], state[name] + share)
    assert mixed.changes["1.num_batches_tracked"] == 1  # a count
    assert mixed.changes.keys() == finetuned.changes.keys()


def test_the_ends_are_exact(model, finetuned):
    state = model.module.state_dict()
    assert torch.equal(finetuned.interpolated(model, 0.0).changes["0.weight"], state["0.weight"])
    assert finetuned.interpolated(model, 1.0) is finetuned


def test_each_share_is_signed(model, finetuned):
    keys = [finetuned.interpolated(model, share).key for share in (0.0, 0.5, 1.0)]
    assert len(set(keys)) == 3
    assert keys[2] == finetuned.key
    assert keys[1] == finetuned.interpolated(model, 0.5).key
