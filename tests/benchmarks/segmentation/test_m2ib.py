"""The saliency maps: as published, wherever an image stands, and where the named thing is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from kt_exp.benchmarks.segmentation.m2ib import saliency
from kt_exp.benchmarks.segmentation.postprocess import upsample
from kt_exp.errors import UserError
from kt_exp.pictograms.drawings import draw_class
from kt_exp.pictograms.weights import PictoClip


def published(model, image, text, settings):
    """M2IB as its code has it: one image, expanded to a batch of draws, α for each feature."""
    layer = model.trunk_layers[settings.layer]
    alpha = torch.full((65, 128), settings.alpha, requires_grad=True)
    optimizer = torch.optim.Adam([alpha], lr=settings.lr)
    generator = torch.Generator().manual_seed(settings.seed)
    batch = image.expand(settings.draws, -1, -1, -1)
    capacity = None

    def bottleneck(module, inputs, x):
        nonlocal capacity
        lamb = torch.sigmoid(alpha).expand(x.shape[0], -1, -1)
        mean, var = x * lamb, (1 - lamb) ** 2
        capacity = -0.5 * (1 + torch.log(var) - mean ** 2 - var)
        return mean + var.sqrt() * torch.randn(mean.shape, generator=generator)

    handle = layer.register_forward_hook(bottleneck)
    for _ in range(settings.steps):
        optimizer.zero_grad()
        fit = F.cosine_similarity(text[None], model.encode_image(batch, normalize=False)).mean()
        (settings.beta * capacity.mean() - fit).backward()
        optimizer.step()
    handle.remove()
    return capacity.mean(dim=0).sum(dim=-1)[1:].reshape(8, 8).detach()


def beside(model, first, second):
    """An image with a thing at the top left and another at the bottom right."""
    things = [Image.fromarray(draw_class(name, 1, 3)[0]) for name in (first, second)]
    image = Image.new("RGB", (64, 64), things[0].getpixel((0, 0)))
    image.paste(things[0].resize((32, 32)), (0, 0))
    image.paste(things[1].resize((32, 32)), (32, 32))
    return model.to_tensor(image)


@pytest.fixture
def two_things(pictoclip):
    return beside(pictoclip, "house", "mushroom")


def text_of(model, name):
    return model.encode_text([f"a picture of a {name}."])[0]


def test_maps_are_those_of_the_published_code(pictoclip, two_things, m2ib):
    text = text_of(pictoclip, "house")
    expected = published(pictoclip, two_things[None], text, m2ib)
    torch.testing.assert_close(saliency(pictoclip, two_things[None], text, m2ib)[0], expected,
                               rtol=1e-3, atol=1e-2)


def test_images_of_a_batch_do_not_influence_each_other(pictoclip, two_things, m2ib):
    text, m2ib = text_of(pictoclip, "house"), replace(m2ib, steps=4, draws=3)
    images = torch.stack([two_things, two_things.flip(-1), torch.rand(3, 64, 64)])
    together = saliency(pictoclip, images, text, m2ib)
    alone = torch.cat([saliency(pictoclip, image[None], text, m2ib) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("things", [("house", "mushroom"), ("wheel", "umbrella"),
                                    ("umbrella", "traffic light")])
def test_a_thing_is_brighter_when_it_is_named(pictoclip, m2ib, things):
    image = beside(pictoclip, *things)[None]

    def share_of_the_first(name):
        grid = saliency(pictoclip, image, text_of(pictoclip, name), m2ib)[0]
        return float(grid[:4, :4].sum() / (grid[:4, :4].sum() + grid[4:, 4:].sum()))

    first, second = map(share_of_the_first, things)
    assert first > second + 0.1


def test_the_map_is_bright_where_something_is(pictoclip, m2ib):
    image = Image.new("RGB", (64, 64), "white")
    image.paste(Image.fromarray(draw_class("house", 1, 3)[0]).resize((32, 32)), (32, 0))
    grid = saliency(pictoclip, pictoclip.to_tensor(image)[None], text_of(pictoclip, "house"),
                    m2ib)[0]
    assert grid[:4, 4:].sum() > 0.8 * grid.sum()


def test_seed_and_variance_matter_and_the_model_stays_as_it_was(pictoclip, two_things, m2ib):
    text, before = text_of(pictoclip, "house"), pictoclip.fingerprint()

    def made(**changes):
        return saliency(pictoclip, two_things[None], text, replace(m2ib, steps=3, **changes))

    assert torch.equal(made(), made())
    assert not torch.equal(made(), made(seed=1))
    assert not torch.equal(made(), made(var=2.0))
    assert pictoclip.fingerprint() == before
    assert not any(layer._forward_hooks for layer in pictoclip.trunk_layers)
    assert not any(p.requires_grad for p in pictoclip.module.parameters())


def test_many_steps_stay_finite(pictoclip, two_things, m2ib):
    text = text_of(pictoclip, "house")
    grid = saliency(pictoclip, two_things[None], text, replace(m2ib, alpha=30.0, steps=2))
    assert grid.isfinite().all()


def test_bf16_gives_about_the_same_map(two_things, m2ib):
    def made(precision):
        model = PictoClip().load(torch.device("cpu"), precision)
        return upsample(saliency(model, two_things[None], text_of(model, "house"), m2ib)[0], 8, 8)

    exact, rough = (torch.from_numpy(made(precision)).flatten() for precision in ("fp32", "bf16"))
    assert torch.corrcoef(torch.stack([exact, rough]))[0, 1] > 0.9


def test_a_layer_without_a_square_of_patches_is_refused(pictoclip, two_things, m2ib):
    class Odd:
        trunk_layers, prefix_tokens = pictoclip.trunk_layers, 2
        encode_image = pictoclip.encode_image

    with pytest.raises(UserError, match=r"benchmark\.m2ib\.layer: returns 63 patches"):
        saliency(Odd(), two_things[None], text_of(pictoclip, "house"), m2ib)
