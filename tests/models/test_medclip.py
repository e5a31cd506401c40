"""MedCLIP against the published package: same weights, same results, same layout of checkpoints."""

import json
import os
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from PIL import Image
from safetensors import safe_open
from torchvision.transforms import Compose, Resize, ToTensor

from kt_exp.benchmarks.embedding import encode_prompts
from kt_exp.errors import UserError
from kt_exp.models.medclip import MedClip

CPU = torch.device("cpu")
RECORDED = Path(__file__).parent / "data" / "medclip.safetensors"


class Silent(nullcontext):
    """A progress bar that shows nothing."""

    def __init__(self, description, total):
        super().__init__(self)

    def advance(self, n=1):
        pass


@pytest.fixture(scope="module")
def recorded():
    """What scripts/record_medclip.py saw the package compute."""
    with safe_open(RECORDED, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def layouts():
    with safe_open(RECORDED, "pt") as file:
        return json.loads(file.metadata()["layouts"])


@pytest.fixture(scope="module")
def specs(bert, swin, medclip_weights):
    keys = {"text": str(bert), "padding": "class", "resize": "bilinear"}
    return {"swin": MedClip(weights=str(medclip_weights["swin"]), vision=str(swin), **keys),
            "resnet": MedClip(weights=str(medclip_weights["resnet"]), vision=None, **keys)}


@pytest.fixture(scope="module")
def models(specs):
    return {name: spec.load(CPU, "fp32") for name, spec in specs.items()}


@pytest.fixture(params=["swin", "resnet"])
def kind(request):
    return request.param


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_images_are_embedded_as_the_package_does(kind, models, recorded, medclip_script):
    close(models[kind].encode_image(medclip_script.pixels(56), normalize=False),
          recorded[f"{kind}.images"])


def test_captions_one_by_one_are_embedded_as_the_package_does(models, recorded, medclip_script):
    close(models["swin"].encode_text(medclip_script.CAPTIONS, normalize=False),
          recorded["texts.alone"])


def test_prompts_of_a_class_are_embedded_as_the_package_does(
        specs, models, recorded, medclip_script):
    close(models["swin"].encode_class(medclip_script.CAPTIONS),
          F.normalize(recorded["texts.longest"], dim=-1))
    assert not torch.allclose(recorded["texts.longest"], recorded["texts.alone"], atol=1e-2)
    alone = replace(specs["swin"], padding="none").load(CPU, "fp32")
    close(alone.encode_class(medclip_script.CAPTIONS),
          F.normalize(recorded["texts.alone"], dim=-1))


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_a_class_is_padded_by_itself_whatever_the_batch_size(
        models, recorded, medclip_script, chunk):
    """The package pads the prompts of a class to the longest of them, and no further."""
    short, rest = ["no edema"], medclip_script.CAPTIONS
    alone, padded = encode_prompts(models["swin"], [short, rest], chunk, Silent, "")
    close(padded, F.normalize(recorded["texts.longest"], dim=-1))
    close(alone, models["swin"].encode_text(short))


def test_logits_are_those_of_the_package(models, recorded, medclip_script):
    model = models["swin"]
    images = model.encode_image(medclip_script.pixels(56))
    texts = model.encode_class(medclip_script.CAPTIONS)
    close(model.logit_scale * images @ texts.T, recorded["logits"])


def test_a_picture_is_prepared_as_by_the_package_s_processor(specs, recorded, medclip_script):
    model = replace(specs["resnet"], resize="bicubic").load(CPU, "fp32")
    tensor = model.to_tensor(medclip_script.picture())
    assert tensor.shape == (3, 224, 224)
    assert torch.equal(tensor[0], tensor[1])
    ours = (tensor[:1, ::7, ::7] - 0.5862785803043838) / 0.27950088968644304
    close(ours, recorded["preprocessed"])


def test_a_picture_is_prepared_as_by_the_package_s_data_set(models, specs, medclip_script):
    """There: pad to a grey square, torchvision's `Resize`, which is bilinear, and `ToTensor`."""
    picture = medclip_script.picture()
    square = Image.new("L", (300, 300))
    square.paste(picture, (0, 20))
    theirs = Compose([Resize((224, 224)), ToTensor()])(square)
    assert torch.equal(models["resnet"].to_tensor(picture)[:1], theirs)
    bicubic = replace(specs["resnet"], resize="bicubic").load(CPU, "fp32")
    assert (bicubic.to_tensor(picture)[:1] - theirs).abs().max() > 0.01
    assert bicubic.to_tensor.signature != models["resnet"].to_tensor.signature


def test_a_small_picture_is_padded_not_enlarged(models):
    tensor = models["resnet"].to_tensor(Image.new("L", (100, 50), 255))
    assert tensor[0].sum() == 100 * 50
    assert tensor[0, 87:137, 62:162].min() == 1


def test_captions_are_cut_as_the_package_does(models, recorded, medclip_script):
    model = models["swin"]
    assert model.max_text_tokens == recorded["tokens"].shape[1] == 77
    counts = [model.count_tokens(caption) for caption in medclip_script.CAPTIONS]
    assert counts[:3] == (recorded["tokens"] > 0).sum(dim=1).tolist()[:3]
    assert counts[3] == 2 + 180


def test_exported_weights_have_the_published_names_and_shapes(kind, models, layouts, tmp_path):
    models[kind].export(tmp_path)
    state = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert {name: list(tensor.shape) for name, tensor in state.items()} == layouts[kind]
    positions = state["text_model.model.embeddings.position_ids"]
    assert torch.equal(positions, torch.arange(128)[None])


def test_the_resnet_is_loaded_again_from_what_it_wrote(specs, models, tmp_path):
    models["resnet"].export(tmp_path)
    again = replace(specs["resnet"], weights=str(tmp_path), text=str(tmp_path / "text"))
    assert again.load(CPU, "fp32").fingerprint() == models["resnet"].fingerprint()
    parts = models["resnet"].towers()
    assert parts["visual_projection"].keys() == {"vision_model.model.fc.weight"}


def test_weights_are_taken_from_the_published_zip_from_the_file_or_its_folder(
        specs, models, tmp_path):
    file = specs["swin"].weights
    with zipfile.ZipFile(tmp_path / "medclip-vit.zip", "w") as archive:
        archive.write(file, "pytorch_model.bin")
    for weights in (tmp_path / "medclip-vit.zip", file, Path(file).parent):
        model = replace(specs["swin"], weights=str(weights)).load(CPU, "fp32")
        assert model.fingerprint() == models["swin"].fingerprint()


def refusal(spec):
    with pytest.raises(UserError) as caught:
        spec.load(CPU, "fp32")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_of_the_other_tower_names_the_first_key(specs):
    line = refusal(replace(specs["swin"], vision=None))
    assert "has weights of another architecture: it lacks 'vision_model.model.conv1.weight'" in line
    assert "model=medclip_resnet" in line


def test_a_checkpoint_of_another_size_names_the_first_key(specs, swin, tmp_path):
    config = json.loads((swin / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "embed_dim": 16}))
    line = refusal(replace(specs["swin"], vision=str(tmp_path)))
    key = "'vision_model.model.embeddings.patch_embeddings.projection.weight'"
    assert f"{key} is [8, 3, 4, 4] in the checkpoint, [16, 3, 4, 4] in the model" in line


def test_files_that_are_not_there(specs, tmp_path):
    assert refusal(replace(specs["swin"], weights="none.zip")).startswith(
        "model.weights: no such file: none.zip; give the published zip")
    assert refusal(replace(specs["swin"], text="/nowhere")).startswith(
        "model.text: no such folder: /nowhere; give a folder, or a hub id")
    assert f"model.text: no configuration of a network in {tmp_path}" in refusal(
        replace(specs["swin"], text=str(tmp_path)))
    assert f"model.vision: no configuration of a network in {tmp_path}" in refusal(
        replace(specs["swin"], vision=str(tmp_path)))


def test_weights_that_hold_code_are_not_loaded(specs, tmp_path):
    torch.save({"logit_scale": os.getcwd}, tmp_path / "pytorch_model.bin")
    assert "holds more than tensors" in refusal(replace(specs["swin"], weights=str(tmp_path)))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "other"])
def test_a_zip_that_would_fill_the_memory_is_not_unpacked(specs, tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(2**26))
    line = refusal(replace(specs["swin"], weights=str(tmp_path / "bomb.zip")))
    assert f"{tmp_path}/bomb.zip would be unpacked to 64 MiB, which weights never are" in line


def test_a_damaged_zip(specs, tmp_path):
    with zipfile.ZipFile(tmp_path / "medclip.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(specs["swin"].weights, "pytorch_model.bin")
    content = bytearray((tmp_path / "medclip.zip").read_bytes())
    content[1000:2000] = bytes(1000)
    (tmp_path / "medclip.zip").write_bytes(content)
    line = refusal(replace(specs["swin"], weights=str(tmp_path / "medclip.zip")))
    assert "medclip.zip cannot be unpacked (" in line


def test_too_little_memory_is_not_called_damage(specs, monkeypatch):
    def no_memory(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(torch, "load", no_memory)
    assert "model.weights: not enough memory to load " in refusal(specs["swin"])


def test_weights_cut_short(specs, tmp_path):
    content = Path(specs["swin"].weights).read_bytes()
    (tmp_path / "pytorch_model.bin").write_bytes(content[:5000])
    assert "damaged" in refusal(replace(specs["swin"], weights=str(tmp_path)))


@pytest.mark.parametrize(("key", "name"), [
    ("text", "emilyalsentzer/Bio_ClinicalBERT"),
    ("vision", "microsoft/swin-tiny-patch4-window7-224"),
])
def test_without_network_it_says_which_files_to_copy(specs, key, name, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    line = refusal(replace(specs["swin"], **{key: name}))
    assert line.startswith(f"model.{key}: '{name}' is no folder here")
    assert "config.json" in line
    assert f"model.{key}=/path/to/folder" in line
