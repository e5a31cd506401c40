"""The model of one's own that docs/models.md shows, as it stands there."""

import re
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from kt_exp.errors import UserError
from kt_exp.models.factory import load_model
from kt_exp.models.protocol import DualEncoder
from kt_exp.plugins import build

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


def block(language, word):
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return next(text for text in blocks if word in text)


@pytest.fixture
def node(tmp_path, monkeypatch):
    code = block("python", "NarrowClip")
    assert len(code.splitlines()) <= 40
    (tmp_path / "my_model.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield OmegaConf.create(block("yaml", "NarrowClip"))
    sys.modules.pop("my_model", None)


def load(node):
    return load_model(build(node, "model"), torch.device("cpu"), "fp32")


def test_the_example_is_a_model(node, tmp_path):
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    network = open_clip.CLIP(16, vision, text)
    save_file(network.state_dict(), tmp_path / "narrow.safetensors")
    node.weights = str(tmp_path / "narrow.safetensors")
    model = load(node)
    assert isinstance(model, DualEncoder)
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    model.score(images, ["a tower", "a dish"]).sum().backward()
    assert images.grad.abs().max() > 0


def test_the_example_refuses_bad_values(node):
    with pytest.raises(UserError, match=r"^model\.weights: missing"):
        load(node)
    node.weights = "nowhere.safetensors"
    with pytest.raises(UserError, match=r"^model\.weights: no such file"):
        load(node)
    node.width = 1
    with pytest.raises(UserError, match=r"^model\.width: 1 is out of range"):
        load(node)
