"""The device that is asked for, and models of one's own."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from kt_exp.errors import UserError
from kt_exp.models.factory import ModelCache, load_model, pick_device

CPU = torch.device("cpu")


@dataclass
class Plugin:
    """Loads nothing; `name` and `weights` are its config keys."""

    name: str
    weights: str

    def load(self, device, precision):
        return object()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.safetensors").write_text("weights")
    return folder


def test_auto_is_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")


def test_a_gpu_by_number(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match=r"^device: 'cuda:2' asked for, but .* sees 2 CUDA devices"):
        pick_device("cuda:2")


@pytest.mark.parametrize(("wanted", "problem"), [
    ("cuda", "sees 0 CUDA devices; give device=auto or device=cpu"),
    ("gpu", "'gpu' is no device; give auto, cpu, cuda or cuda:N"),
    ("cuda:x", "'cuda:x' is no device"),
    ("meta", "'meta' is not supported"),
])
def test_a_device_that_is_not_there(monkeypatch, wanted, problem):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UserError) as caught:
        pick_device(wanted)
    assert problem in str(caught.value)


def test_a_plug_in_that_is_no_model():
    with pytest.raises(UserError, match=r"model\._target_: object has no load"):
        load_model(object(), torch.device("cpu"), "fp32")


def test_the_model_loaded_last_is_handed_out_again(weights):
    cache = ModelCache()
    first = cache.load(Plugin("a", str(weights)), CPU, "fp32")
    assert cache.load(Plugin("a", str(weights)), CPU, "fp32") is first


@pytest.mark.parametrize(("spec", "precision"), [
    (Plugin("b", ""), "fp32"), (Plugin("a", "elsewhere"), "fp32"), (Plugin("a", ""), "bf16")])
def test_another_config_is_another_model_and_one_is_kept_at_a_time(spec, precision):
    cache = ModelCache()
    first = cache.load(Plugin("a", ""), CPU, "fp32")
    assert cache.load(spec, CPU, precision) is not first
    assert cache.load(Plugin("a", ""), CPU, "fp32") is not first


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_weights_that_changed_on_disk_are_loaded_again(weights, prefix):
    cache, spec = ModelCache(), Plugin("a", f"{prefix}{weights}")
    first = cache.load(spec, CPU, "fp32")
    (weights / "weights.safetensors").write_text("other weights")
    assert cache.load(spec, CPU, "fp32") is not first


def test_a_cleared_cache_loads_again():
    cache = ModelCache()
    first = cache.load(Plugin("a", ""), CPU, "fp32")
    cache.clear()
    assert cache.load(Plugin("a", ""), CPU, "fp32") is not first
