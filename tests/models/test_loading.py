"""Weights that cannot be had: one line that says which, and what to give instead."""

import json
import os
import shutil
import time

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from kt_exp.errors import UserError
from kt_exp.models.clip import OpenClip

CPU = torch.device("cpu")


def refusal(name, pretrained=None):
    with pytest.raises(UserError) as caught:
        OpenClip(name, pretrained).load(CPU, "fp32")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(folders, tmp_path):
    return shutil.copytree(folders["vit"], tmp_path / "model")


def test_a_name_that_open_clip_does_not_know():
    line = refusal("ViT-B-33", "openai")
    assert line.startswith("model.name: open_clip has no model 'ViT-B-33'; did you mean ")
    assert "'ViT-B-32'" in line


def test_a_tag_that_the_model_does_not_have():
    line = refusal("ViT-B-32-quickgelu", "openia")
    assert "model.pretrained: 'ViT-B-32-quickgelu' has no tag 'openia'" in line
    assert "did you mean 'openai'" in line


def test_a_model_without_weights(built_in):
    assert refusal("ViT-B-32").startswith("model.pretrained: missing: an untrained model")
    assert "there are none" in refusal(built_in[0])


def test_a_checkpoint_that_is_not_there():
    assert "model.pretrained: no such file: /nowhere/clip.pt" in refusal("ViT-B-32",
                                                                       "/nowhere/clip.pt")
    assert "no such file: clip.pt" in refusal("ViT-B-32", "clip.pt")


@pytest.mark.parametrize(("name", "tag", "right"), [
    ("ViT-B-32", "openai", "use ViT-B-32-quickgelu"),
    ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "use ViT-B-32"),
])
def test_weights_trained_with_another_activation(name, tag, right, monkeypatch):
    monkeypatch.setattr("open_clip.list_pretrained_tags_by_model", lambda _: [tag])
    monkeypatch.setattr("open_clip.get_pretrained_cfg",
                        lambda *_: {"quick_gelu": tag == "openai", "hf_hub": "nobody/nothing/"})
    line = refusal(name, tag)
    assert "has another activation" in line
    assert line.endswith(right)


def test_a_tag_for_a_folder_that_has_its_own_weights(folder):
    line = refusal(f"local-dir:{folder}", "openai")
    assert line.startswith("model.pretrained: 'openai' would be ignored")


def test_a_folder_that_is_not_there():
    assert "model.name: no such folder: /nowhere" in refusal("local-dir:/nowhere")


def test_a_folder_without_its_config(folder):
    (folder / "open_clip_config.json").unlink()
    assert f"model.name: {folder} has no open_clip_config.json" in refusal(f"local-dir:{folder}")


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_config_that_is_none(folder, content):
    (folder / "open_clip_config.json").write_text(content)
    line = refusal(f"local-dir:{folder}")
    assert line.startswith(f"{folder}/open_clip_config.json: is not a model's configuration")


def test_a_folder_without_weights(folder):
    (folder / "open_clip_model.safetensors").unlink()
    assert f"{folder} holds no weights" in refusal(f"local-dir:{folder}")


def test_a_folder_without_the_tokenizer_it_asks_for(folder):
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "its-own"
    path.write_text(json.dumps(config))
    assert f"{folder} holds no tokenizer" in refusal(f"local-dir:{folder}")


def test_weights_of_another_size_name_the_first_key_that_differs(folder):
    path = folder / "open_clip_model.safetensors"
    weights = load_file(path)
    weights["visual.proj"] = weights["visual.proj"][:, :8].contiguous()
    save_file(weights, path)
    line = refusal(f"local-dir:{folder}")
    assert "has weights of another architecture" in line
    assert "'visual.proj' is [32, 8] in the checkpoint, [32, 16] in the model" in line


def test_weights_of_another_kind_name_the_first_key_that_differs(folders, folder):
    shutil.copy(folders["resnet"] / "open_clip_model.safetensors", folder)
    line = refusal(f"local-dir:{folder}")
    assert "another architecture: 'visual.conv1.weight' is [4, 3, 3, 3] in the checkpoint" in line


def test_weights_with_less_than_the_model_has(folder):
    path = folder / "open_clip_model.safetensors"
    weights = load_file(path)
    del weights["visual.proj"]
    save_file(weights, path)
    assert "another architecture: it lacks 'visual.proj'" in refusal(f"local-dir:{folder}")


def test_weights_with_more_than_the_model_has(folder):
    path = folder / "open_clip_model.safetensors"
    save_file({**load_file(path), "extra": torch.zeros(1)}, path)
    assert "the model has no 'extra'" in refusal(f"local-dir:{folder}")


@pytest.mark.parametrize("spoil", [lambda good: good[:5000], lambda good: b"",
                                   lambda good: b"nonsense" * 99])
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_damaged_or_cut_short(built_in, tmp_path, suffix, spoil):
    path = tmp_path / f"tiny.{suffix}"
    weights = torch.load(built_in[1], weights_only=True)["state_dict"]
    save_file(weights, path) if suffix == "safetensors" else torch.save(weights, path)
    path.write_bytes(spoil(path.read_bytes()))
    line = refusal(built_in[0], str(path))
    assert line.startswith(f"model.pretrained: {path} cannot be loaded (")
    assert "damaged or cut short" in line


def test_a_pickle_that_could_run_code_is_not_loaded(built_in, tmp_path):
    path = tmp_path / "unsafe.pt"
    torch.save({"state_dict": {"visual.proj": os.getcwd}}, path)
    line = refusal(built_in[0], str(path))
    assert f"model.pretrained: {path} holds more than tensors" in line
    assert "safetensors" in line


def test_a_torchscript_archive_is_not_run(built_in, tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    assert f"{path} is a TorchScript archive" in refusal(built_in[0], str(path))


def test_a_file_of_something_else(built_in, tmp_path):
    for content in ({}, [1], "text"):
        torch.save(content, tmp_path / "other.pt")
        assert "no checkpoint of this model" in refusal(built_in[0], str(tmp_path / "other.pt"))


def test_too_little_memory_is_not_called_damage(folder, monkeypatch):
    def no_memory(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr("open_clip.create_model_and_transforms", no_memory)
    assert f"not enough memory to load local-dir:{folder}; end other" in refusal(
        f"local-dir:{folder}")


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A hub that nothing listens at, and an empty cache."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.parametrize(("name", "tag", "wanted", "source"), [
    ("ViT-B-32-quickgelu", "openai", "ViT-B-32-quickgelu (openai)",
     "timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors"),
    ("ViT-B/32-quickgelu", "openai", "ViT-B-32-quickgelu (openai)",
     "timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors"),
    ("hf-hub:some/model", None, "hf-hub:some/model", "some/model/open_clip_config.json"),
])
def test_without_network_it_fails_at_once_and_says_what_to_give(no_network, capfd, name, tag,
                                                                wanted, source):
    start = time.monotonic()
    line = refusal(name, tag)
    file = "a file: model.pretrained=/path/to/checkpoint, or " if tag else ""
    assert line == (
        f"model: the weights of {wanted} are not on this machine, and {source} cannot be reached; "
        f"give {file}a folder: model=open_clip model.name=local-dir:/path/to/folder"
    )
    assert time.monotonic() - start < 5
    assert capfd.readouterr().err == ""
    assert not constants.HF_HUB_OFFLINE


def test_local_weights_ask_no_network(no_network, folder, built_in, monkeypatch):
    def fail():
        raise AssertionError("asked the network")

    monkeypatch.setattr("kt_exp.offline._hub_answers", fail)
    OpenClip(f"local-dir:{folder}", None).load(CPU, "fp32")
    OpenClip(*built_in).load(CPU, "fp32")


def test_a_tilde_is_the_home_folder(folder, built_in, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    shutil.copy(built_in[1], folder.parent / "tiny.pt")
    a = OpenClip(f"local-dir:~/{folder.name}", None).load(CPU, "fp32")
    b = OpenClip(built_in[0], "~/tiny.pt").load(CPU, "fp32")
    assert a.image_size == b.image_size == 32


def test_a_preset_of_clip_keeps_quick_gelu_when_exported(built_in, tmp_path):
    model = OpenClip(*built_in).load(CPU, "fp32")
    model.export(tmp_path)
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    assert config["model_cfg"]["quick_gelu"] is True
