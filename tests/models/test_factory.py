"""The device that is asked for, and models of one's own."""

import pytest
import torch

from kt_exp.errors import UserError
from kt_exp.models.factory import load_model, pick_device


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
