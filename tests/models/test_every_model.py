"""What inversion and fine-tuning ask of any model, whatever is inside and however it matches."""

import pytest
import torch
from PIL import Image

from kt_exp.models.clip import OpenClip
from kt_exp.models.protocol import Model
from kt_exp.models.vilt import ViLT
from kt_exp.pictograms.weights import PictoClip

CPU = torch.device("cpu")
CAPTIONS = [f"a photo of a {word}" for word in
            ("house", "wheel", "tower", "dice", "tree", "boat", "cup", "key", "star", "ring")]


def vilt(folder):
    return ViLT(name=str(folder), tokenizer=None, head="auto", resize="crop")


def open_clip(folder):
    return OpenClip(f"local-dir:{folder}", None)


@pytest.fixture(scope="module", params=["pictoclip", "vit", "vilt_itm", "vilt_rank"])
def kind(request, folders, vilt_folders):
    """A plug-in, and what loads a folder that its model exported."""
    return {
        "pictoclip": lambda: (PictoClip(), open_clip),
        "vit": lambda: (open_clip(folders["vit"]), open_clip),
        "vilt_itm": lambda: (vilt(vilt_folders["itm"]), vilt),
        "vilt_rank": lambda: (vilt(vilt_folders["rank"]), vilt),
    }[request.param]()


@pytest.fixture(scope="module")
def spec(kind):
    return kind[0]


@pytest.fixture(scope="module")
def model(spec):
    return spec.load(CPU, "fp32")


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
    assert model.count_tokens("house " * 200) == 2 + 200 * (one - 2)
    assert model.count_tokens("house " * 200) > model.max_text_tokens
    assert model.count_tokens("  house \n ") == one


def test_a_caption_beyond_the_limit_is_cut(model, images):
    long = model.score(images[:1].repeat(2, 1, 1, 1), ["house " * 200, "house " * 201])
    torch.testing.assert_close(long[0], long[1])


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_any_picture_becomes_a_tensor_within_0_and_1(model, mode):
    tensor = model.to_tensor(Image.linear_gradient("L").resize((300, 200)).convert(mode))
    assert tensor.shape == (3, model.image_size, model.image_size)
    assert 0 <= tensor.min() < 0.2
    assert 0.8 < tensor.max() <= 1


def test_towers_hold_the_network_s_own_parameters(model):
    towers, named = model.towers(), dict(model.module.named_parameters())
    assert towers.keys() >= {"visual", "visual_projection", "text"}
    assert towers["visual"]
    assert towers["visual_projection"].keys() < towers["visual"].keys()
    assert not towers["visual"].keys() & towers["text"].keys()
    for part in towers.values():
        assert all(named[name] is parameter for name, parameter in part.items())


def test_exported_it_loads_again_with_the_same_scores(kind, model, images, tmp_path):
    model.export(tmp_path)
    again = kind[1](tmp_path).load(CPU, "fp32")
    with torch.no_grad():
        assert torch.equal(again.score(images, CAPTIONS), model.score(images, CAPTIONS))
    assert again.fingerprint() == model.fingerprint()


def test_the_fingerprint_tells_weights_and_precision_apart(spec, model):
    other = spec.load(CPU, "fp32")
    assert other.fingerprint() == model.fingerprint()
    assert spec.load(CPU, "bf16").fingerprint() != model.fingerprint()
    next(other.module.parameters()).view(-1)[0].add_(1e-3)
    assert other.fingerprint() != model.fingerprint()


def test_bf16_scores_are_close_and_still_fp32(spec, model, images):
    half = spec.load(CPU, "bf16")
    pixels = images[:2].clone().requires_grad_()
    scores = half.score(pixels, CAPTIONS[:2])
    scores.sum().backward()
    assert scores.dtype == pixels.grad.dtype == torch.float32
    assert pixels.grad.isfinite().all()
    exact = model.score(images[:2], CAPTIONS[:2])
    torch.testing.assert_close(scores, exact, rtol=0.05, atol=0.05)
    assert not torch.equal(scores, exact)
