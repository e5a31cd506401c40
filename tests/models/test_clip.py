"""What open_clip models offer beyond a dual encoder: the layers of a transformer trunk."""

import pytest
import torch

from kt_exp.models.clip import OpenClip
from kt_exp.models.protocol import TransformerTrunk


def load(folder):
    return OpenClip(f"local-dir:{folder}", None).load(torch.device("cpu"), "fp32")


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
