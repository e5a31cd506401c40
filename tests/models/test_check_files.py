"""Whether a model's weights are there is told without loading them, and without downloads."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from kt_exp.errors import UserError
from kt_exp.models.clip import OpenClip
from kt_exp.models.effnet_minilm import EffNetMiniLM
from kt_exp.models.factory import check_files
from kt_exp.models.medclip import MedClip
from kt_exp.models.vilt import ViLT
from kt_exp.pictograms.weights import FOLDER, PictoClip

TAG = OpenClip("ViT-B-32-quickgelu", "openai")
HUB = ViLT(name="dandelin/vilt-b32-mlm-itm", tokenizer=None, head="auto", rank_by="match",
           resize="crop")


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Says whether there is a network; the hub's cache is empty, and nothing can be fetched."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return lambda answers: monkeypatch.setattr("kt_exp.offline._hub_answers", lambda: answers)


@pytest.mark.parametrize("model", [TAG, HUB], ids=["tag", "hub"])
def test_weights_that_can_be_fetched_are_no_problem(network, model) -> None:
    network(True)
    check_files(model)
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(("model", "problem"), [
    (TAG, "the weights of ViT-B-32-quickgelu .openai. are not on this machine"),
    (HUB, "'dandelin/vilt-b32-mlm-itm' is no folder here, is not in the hub's cache"),
], ids=["tag", "hub"])
def test_weights_that_cannot_be_fetched_are(network, model, problem: str) -> None:
    network(False)
    with pytest.raises(UserError, match=problem):
        check_files(model)
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(("model", "problem"), [
    (OpenClip("ViT-B-32-quickgelu", "gone.pt"), "no such file: gone.pt"),
    (OpenClip("local-dir:gone", None), "no such folder: gone"),
    (ViLT(name=str(FOLDER), tokenizer=None, head="auto", rank_by="match", resize="crop"),
     "has no config.json"),
    (MedClip(weights="gone.zip", text="a/b", vision=None, padding="class", resize="bilinear"),
     "no such file: gone.zip"),
    (EffNetMiniLM(weights="gone", exclude_names=[], templates=["{}"], ridge=0.03, cache=None),
     "gone has no "),
], ids=["file", "folder", "layout", "medclip", "export"])
def test_files_that_are_not_there_are_a_problem_with_a_network_too(network, model, problem: str,
                                                                   ) -> None:
    network(True)
    with pytest.raises(UserError, match=problem):
        check_files(model)


def test_a_model_without_such_a_check_is_checked_when_it_loads() -> None:
    check_files(PictoClip())
