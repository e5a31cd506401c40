"""Image encoders, cut in two: both halves together are the whole, bit for bit."""

import pytest
import torch

from kt_exp.errors import UserError
from kt_exp.finetune.strategies import trained_parameters
from kt_exp.models.clip import OpenClip
from kt_exp.models.medclip import MedClip
from kt_exp.models.protocol import DualEncoder, ProjectedEncoder
from kt_exp.models.split import split
from kt_exp.models.vilt import ViLT
from kt_exp.pictograms.weights import PictoClip

CPU = torch.device("cpu")
# Each architecture with its number of layers.
LAYERS = {"pictoclip": 5, "vit": 2, "resnet": 4, "timm": 6, "timm_classifier": 6, "coca": 2,
          "medclip_resnet": 4}


@pytest.fixture(scope="module", params=LAYERS)
def model(request, folders, bert, medclip_weights):
    if request.param == "pictoclip":
        return PictoClip().load(CPU, "fp32")
    if request.param == "medclip_resnet":
        return MedClip(weights=str(medclip_weights["resnet"]), text=str(bert), vision=None,
                       padding="none", resize="bilinear").load(CPU, "fp32")
    return OpenClip(f"local-dir:{folders[request.param]}", None).load(CPU, "fp32")


@pytest.fixture(scope="module")
def images(model):
    return torch.rand(3, 3, model.image_size, model.image_size,
                      generator=torch.Generator().manual_seed(0))


def cuts(model):
    yield from (f"last_{above}" for above in range(1, model.layer_count + 1))
    if isinstance(model, ProjectedEncoder):
        yield "projection"


def test_the_layers_are_counted(request, model):
    assert model.layer_count == LAYERS[request.node.callspec.params["model"]]


def test_the_top_on_the_features_of_the_bottom_is_the_whole(model, images):
    with torch.no_grad():
        whole = model.encode_image(images)
        for layers in cuts(model):
            top = split(model, layers)
            assert isinstance(top, DualEncoder)
            features = top.features_of(images)
            assert features.dtype == torch.float32
            torch.testing.assert_close(top.encode_image(features), whole)
            if isinstance(top, ProjectedEncoder):
                assert torch.equal(top.project(top.encode_trunk(features)),
                                   top.encode_image(features))


def test_gradients_reach_what_lies_above_the_cut_and_nothing_else(model, images):
    for layers in cuts(model):
        top = split(model, layers)
        features = top.features_of(images).requires_grad_()
        for parameter in model.module.parameters():
            parameter.requires_grad_(True)
        try:
            top.encode_image(features).sum().backward()
            reached = {name for name, parameter in model.towers()["visual"].items()
                       if parameter.grad is not None}
        finally:
            model.module.requires_grad_(False).zero_grad(set_to_none=True)
        assert features.grad.abs().sum() > 0
        trained = trained_parameters(top, "visual")
        assert reached <= trained.keys()
        assert trained.keys() < model.towers()["visual"].keys()


def test_more_layers_are_more_parameters(model):
    counts = [len(split(model, f"last_{above}").towers()["visual"])
              for above in range(1, model.layer_count + 1)]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize(("kind", "layers", "line"), [
    ("vit", "last_3", "inversion.layers: last_3 of 2 layers; choose at most last_2, or all"),
    ("resnet", "projection", "inversion.layers: OpenClipModel has no image encoder that ends in "
                             "one linear map; choose last_1 or all"),
])
def test_cuts_that_cannot_be(folders, kind, layers, line):
    with pytest.raises(UserError) as caught:
        split(OpenClip(f"local-dir:{folders[kind]}", None).load(CPU, "fp32"), layers)
    assert str(caught.value) == line


def test_models_without_known_layers_are_refused(vilt_folders, bert, swin, medclip_weights):
    vilt = ViLT(name=str(vilt_folders["itm"]), tokenizer=None, head="auto", rank_by="match",
                resize="crop")
    medclip = MedClip(weights=str(medclip_weights["swin"]), text=str(bert), vision=str(swin),
                      padding="none", resize="bilinear")
    for spec, kind in ((vilt, "ViLTModel"), (medclip, "MedClipModel")):
        with pytest.raises(UserError, match=f"the layers of {kind}'s image encoder are not known"):
            split(spec.load(CPU, "fp32"), "last_1")
