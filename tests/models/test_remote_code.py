"""Code that comes with a model is never run, whatever its configuration asks for."""

import io
import json
import shutil
import sys
from dataclasses import replace

import pytest
import torch

from kt_exp.concepts.instruct import ask_local
from kt_exp.errors import UserError
from kt_exp.models.clip import OpenClip
from kt_exp.models.coca import Coca
from kt_exp.models.effnet_minilm import EffNetMiniLM
from kt_exp.models.medclip import MedClip
from kt_exp.models.vilt import ViLT

CPU = torch.device("cpu")
TRUSTED = {"trust_remote_code": True}


class Obliging(io.StringIO):
    """A standard input that answers every question with yes."""

    asked = 0

    def readline(self, *_):
        Obliging.asked += 1
        return "y\n"


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch, tmp_path):
    """Fails the test if code of `planted` ran, or a question was asked."""
    monkeypatch.setattr(sys, "stdin", Obliging())
    monkeypatch.setattr(Obliging, "asked", 0)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    yield
    assert not (tmp_path / "ran").exists()
    assert Obliging.asked == 0


@pytest.fixture
def planted(tmp_path):
    """Copies a folder and puts code into it; `edits` are keys to add, by file."""
    def plant(source, **edits):
        folder = shutil.copytree(source, tmp_path / "model")
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
        for stem, added in edits.items():
            path = folder / f"{stem}.json"
            known = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps({**known, **added}))
        return folder

    return plant


def refusal(load):
    with pytest.raises(UserError) as caught:
        load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def auto_map(*kinds):
    """A configuration whose classes are those of evil.py, and of no class of transformers."""
    return {"auto_map": dict.fromkeys(kinds, "evil.Evil"), "model_type": "evil"}


# No class of transformers: without the folder's code there is no tokenizer.
TOKENIZER = {"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}, "tokenizer_class": "Evil"}


def open_clip_of(folder):
    return lambda: OpenClip(f"local-dir:{folder}", None).load(CPU, "fp32")


def with_tokenizer_arguments(folder, **arguments):
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = arguments
    path.write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("load", [OpenClip, Coca])
def test_open_clip_told_to_trust_the_code(folders, planted, load):
    folder = with_tokenizer_arguments(planted(folders["biomedclip"], tokenizer_config=TOKENIZER),
                                      **TRUSTED)
    line = refusal(lambda: load(f"local-dir:{folder}", None).load(CPU, "fp32"))
    assert line.startswith(f"{folder}/open_clip_config.json: asks for trust_remote_code")


def test_open_clip_with_a_tokenizer_of_its_own_takes_its_words_from_the_json(folders, planted):
    model = open_clip_of(planted(folders["biomedclip"], tokenizer_config=TOKENIZER))()
    assert model.count_tokens("house") == 3


def test_open_clip_with_a_text_encoder_of_its_own(folders, planted):
    config = auto_map("AutoConfig", "AutoModel")
    assert "without the code that comes with it" in refusal(
        open_clip_of(planted(folders["biomedclip"], config=config)))


def test_code_beside_a_class_that_transformers_has_is_ignored(folders, planted):
    both = {"auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil",
                         "AutoTokenizer": [None, "evil.Evil"]}}
    folder = planted(folders["biomedclip"], config=both, tokenizer_config=both)
    open_clip_of(folder)()


@pytest.fixture
def medclip(bert, swin, medclip_weights):
    return MedClip(weights=str(medclip_weights["swin"]), text=str(bert), vision=str(swin),
                   padding="none", resize="bilinear")


@pytest.mark.parametrize("edits", [
    {"config": auto_map("AutoConfig", "AutoModel")}, {"tokenizer_config": TOKENIZER}])
def test_medclips_text_tower(medclip, bert, planted, edits):
    folder = planted(bert, **edits)
    line = refusal(lambda: replace(medclip, text=str(folder)).load(CPU, "fp32"))
    assert line.startswith("model.text: ")
    assert "without the code that comes with it" in line


def test_medclips_image_tower(medclip, swin, planted):
    folder = planted(swin, config=auto_map("AutoConfig", "AutoModel"))
    line = refusal(lambda: replace(medclip, vision=str(folder)).load(CPU, "fp32"))
    assert line.startswith("model.vision: ")
    assert "without the code that comes with it" in line


def test_vilts_tokenizer(vilt_folders, planted):
    folder = planted(vilt_folders["itm"], tokenizer_config=TOKENIZER)
    spec = ViLT(name=str(folder), tokenizer=None, head="auto", rank_by="match", resize="crop")
    line = refusal(lambda: spec.load(CPU, "fp32"))
    assert line.startswith("model.tokenizer: ")
    assert "without the code that comes with it" in line


def test_a_kernel_from_the_hub(swin, medclip, planted):
    folder = planted(swin, config={"attn_implementation": "someone/kernel"})
    line = refusal(lambda: replace(medclip, vision=str(folder)).load(CPU, "fp32"))
    assert line.startswith(f"{folder}/config.json: asks for the kernel someone/kernel")


def test_a_kernel_from_the_hub_for_the_joined_towers(planted, tmp_path):
    (tmp_path / "written").mkdir()
    folder = planted(tmp_path / "written",
                     config={"excluded": [], "text": {"attn_implementation": "someone/kernel"}})
    spec = EffNetMiniLM(weights=str(folder), exclude_names=[], templates=["{}"], ridge=1,
                        cache=None)
    assert "asks for the kernel someone/kernel" in refusal(lambda: spec.load(CPU, "fp32"))


@pytest.mark.parametrize("edits", [
    {"config": auto_map("AutoConfig", "AutoModelForCausalLM")}, {"tokenizer_config": TOKENIZER}])
def test_the_language_model_that_writes_descriptions(bert, planted, edits):
    folder = planted(bert, **edits)
    line = refusal(lambda: ask_local(str(folder), draw=None))
    assert line.startswith("--model: ")
    assert "without the code that comes with it" in line


def test_a_configuration_nested_without_end(medclip, swin, planted):
    folder = planted(swin)
    (folder / "config.json").write_text("[" * 200_000)
    assert f"{folder}/config.json: is not valid JSON" in refusal(
        lambda: replace(medclip, vision=str(folder)).load(CPU, "fp32"))
