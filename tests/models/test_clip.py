"""What is particular to open_clip models: its own results, its format, the layers of a ViT."""

import json

import open_clip
import pytest
import torch
from PIL import Image

from kt_exp.models.clip import OpenClip
from kt_exp.models.protocol import TransformerTrunk
from kt_exp.pictograms.weights import PictoClip

CAPTIONS = ["a photo of a house", "a wheel"]


def load(folder):
    return OpenClip(f"local-dir:{folder}", None).load(torch.device("cpu"), "fp32")


@pytest.fixture(scope="module", params=["pictoclip", "built_in", "vit", "resnet", "custom_text",
                                        "timm", "timm_classifier"])
def model(request, folders, built_in):
    if request.param == "pictoclip":
        return PictoClip().load(torch.device("cpu"), "fp32")
    if request.param == "built_in":
        return OpenClip(*built_in).load(torch.device("cpu"), "fp32")
    return load(folders[request.param])


def test_exported_it_gives_in_open_clip_what_it_gives_here(model, tmp_path):
    model.export(tmp_path)
    name = f"local-dir:{tmp_path}"
    network, _, preprocess = open_clip.create_model_and_transforms(name)
    tokens = open_clip.get_tokenizer(name)(CAPTIONS)
    picture = Image.radial_gradient("L").convert("RGB")
    with torch.no_grad():
        texts = network.eval().encode_text(tokens, normalize=True)
        seen = network.encode_image(preprocess(picture)[None], normalize=True)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(model.encode_text(CAPTIONS), texts, **close)
    # Normalisation is a step of the transform there and lies within the model here.
    torch.testing.assert_close(model.encode_image(model.to_tensor(picture)[None]), seen, **close)


def test_the_activation_survives_export(model, tmp_path):
    model.export(tmp_path)
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    uses_quick = any(type(module).__name__ == "QuickGELU" for module in model.module.modules())
    assert config["model_cfg"].get("quick_gelu", False) == uses_quick


@pytest.mark.parametrize(("architecture", "layers", "patches", "width"), [
    ("vit", 2, 16, 32), ("custom_text", 2, 16, 32), ("timm", 6, 100, 64),
])
def test_a_vit_shows_its_layers_as_tokens(folders, architecture, layers, patches, width):
    model = load(folders[architecture])
    assert isinstance(model, TransformerTrunk)
    assert len(model.trunk_layers) == layers
    seen = []
    for layer in model.trunk_layers:
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.shape))
    model.encode_image(torch.rand(3, 3, model.image_size, model.image_size))
    assert seen == [(3, model.prefix_tokens + patches, width)] * layers


def test_the_last_layer_is_what_the_embedding_is_made_of(folders):
    model = load(folders["vit"])
    images = torch.rand(1, 3, 32, 32)
    before = model.encode_image(images)
    handle = model.trunk_layers[-1].register_forward_hook(lambda layer, inputs, output: output * 0)
    assert not torch.allclose(model.encode_image(images), before)
    handle.remove()
    assert torch.equal(model.encode_image(images), before)


def test_a_resnet_has_no_such_layers(folders):
    assert not isinstance(load(folders["resnet"]), TransformerTrunk)
