"""What CoCa adds to a dual encoder: the captioning loss, and captions."""

import open_clip
import pytest
import torch
from open_clip.loss import CoCaLoss

from kt_exp.errors import UserError
from kt_exp.models.coca import Coca
from kt_exp.models.protocol import Captioner, GenerationSettings, TransformerTrunk

CPU = torch.device("cpu")
CAPTIONS = ["a cat", "a dog lies on the mat", "two birds above a house"]
START, END = 49406, 49407


@pytest.fixture(scope="module")
def spec(folders):
    return Coca(f"local-dir:{folders['coca']}", None)


@pytest.fixture(scope="module")
def model(spec):
    return spec.load(CPU, "fp32")


@pytest.fixture
def terse(spec):
    """A CoCa that likes to stop: its end token looks much like some others."""
    model = spec.load(CPU, "fp32")
    output = model.module.text_decoder.text_projection
    output.data[:, END] = output.data[:, 1000:1600:100].sum(dim=1)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def settings(**changes):
    usual = {"method": "beam", "beams": 1, "max_tokens": 8, "min_tokens": 2, "temperature": 1.0,
             "top_p": 0.9, "seed": 0}
    return GenerationSettings(**{**usual, **changes})


def next_tokens(model, image, tokens):
    """Log-probabilities of what follows `tokens` in open_clip's own forward pass."""
    with torch.no_grad():
        pixels = model._normalize(image[None])
        out = model.module(pixels, torch.tensor([tokens]), output_labels=False)
    return out["logits"][0, -1].log_softmax(dim=-1)


def text(tokens):
    return " ".join(open_clip.SimpleTokenizer().decode(tokens).split())


def greedy(model, image, most):
    tokens = [START]
    while len(tokens) < most:
        tokens.append(int(next_tokens(model, image, tokens).argmax()))
        if tokens[-1] == END:
            break
    return text([token for token in tokens if token not in (START, END)])


def test_it_writes_captions_and_shows_its_layers(model):
    assert isinstance(model, Captioner)
    assert isinstance(model, TransformerTrunk)
    assert len(model.trunk_layers) == 2


def test_the_tags_of_both_configs_are_open_clips():
    tags = open_clip.list_pretrained_tags_by_model("coca_ViT-L-14")
    assert {"laion2b_s13b_b90k", "mscoco_finetuned_laion2b_s13b_b90k"} <= set(tags)


def test_the_captioning_loss_is_open_clips(model, images):
    tokens = open_clip.SimpleTokenizer(context_length=16)(CAPTIONS)
    with torch.no_grad():
        out = model.module(model._normalize(images), tokens)
        _, theirs = CoCaLoss(caption_loss_weight=1.0, clip_loss_weight=1.0)(**out)
        ours = model.caption_loss(images, CAPTIONS)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_each_token_weighs_the_same_and_padding_nothing(model, images):
    with torch.no_grad():
        alone = [model.caption_loss(images[i:i + 1], [CAPTIONS[i]]) for i in range(3)]
        together = model.caption_loss(images, CAPTIONS)
    tokens = [model.count_tokens(caption) - 1 for caption in CAPTIONS]
    weighted = sum(loss * n for loss, n in zip(alone, tokens, strict=True)) / sum(tokens)
    torch.testing.assert_close(together, weighted, rtol=0, atol=1e-5)


def test_a_caption_beyond_the_limit_is_cut(model, images):
    long = [model.caption_loss(images[:1], ["house " * n]) for n in (14, 200)]
    assert torch.equal(*long)


def test_with_a_frozen_decoder_the_captioning_loss_reaches_the_visual_tower_alone(spec, images):
    model = spec.load(CPU, "fp32")
    towers = model.towers()
    assert all(name.startswith("text_decoder.") for name in towers["decoder"])
    assert list(towers["visual_projection"]) == ["visual.proj"]
    for parameter in towers["visual"].values():
        parameter.requires_grad_(True)
    model.caption_loss(images, CAPTIONS).backward()
    learns = {name for name, p in model.module.named_parameters() if p.grad is not None}
    # The projection makes the embedding alone, which no caption is written from.
    assert learns == towers["visual"].keys() - {"visual.proj"}


def test_one_beam_takes_the_most_probable_token_at_each_step(model, terse, images):
    for writer in (model, terse):
        expected = [greedy(writer, image, 8) for image in images]
        assert writer.generate(images, settings()) == expected


def test_captions_end_where_the_end_token_is(terse, images):
    short = terse.generate(images, settings(max_tokens=14))
    assert min(len(caption) for caption in short) < max(len(caption) for caption in short)
    assert not any("end_of_text" in caption or "!!!" in caption for caption in short)


def test_beam_search_finds_what_a_naive_one_finds(model, images):
    """Captions of three tokens, as the end token may not come before."""
    beams = 3
    for image, found in zip(images, model.generate(images, settings(beams=beams, max_tokens=4,
                                                                    min_tokens=4)), strict=True):
        kept = [(0.0, [START])]
        for _ in range(3):
            longer = []
            for score, tokens in kept:
                scores = next_tokens(model, image, tokens)
                scores[END] = float("-inf")
                best = scores.topk(beams)
                longer += [(score + value, [*tokens, token]) for value, token in
                           zip(best.values.tolist(), best.indices.tolist(), strict=True)]
            kept = sorted(longer, reverse=True)[:beams]
        assert found == text(kept[0][1][1:])


def test_beams_of_a_batch_do_not_mix(model, images):
    together = model.generate(images, settings(beams=2))
    assert together == [model.generate(image[None], settings(beams=2))[0] for image in images]


def test_sampling_follows_its_seed_and_leaves_the_global_one(model, images):
    before = torch.get_rng_state()
    drawn = [model.generate(images, settings(method="sample", seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_sampling_from_the_very_top_is_greedy(model, images):
    drawn = model.generate(images, settings(method="sample", top_p=1e-6))
    assert drawn == model.generate(images, settings())


def test_bf16_writes_captions_too(spec, images):
    half = spec.load(CPU, "bf16")
    assert all(half.generate(images, settings(beams=2)))
    assert half.caption_loss(images, CAPTIONS).dtype == torch.float32


def test_an_exported_model_writes_the_same(model, images, tmp_path):
    model.export(tmp_path)
    again = Coca(f"local-dir:{tmp_path}", None).load(CPU, "fp32")
    assert again.generate(images, settings(beams=2)) == model.generate(images, settings(beams=2))


def test_more_tokens_than_the_decoder_holds_are_refused(model, images):
    with pytest.raises(UserError, match=r"benchmark\.generation\.max_tokens: 17 is more than"):
        model.generate(images, settings(max_tokens=17))


def test_a_model_without_a_decoder_is_refused(folders):
    with pytest.raises(UserError, match=r"model\.name: .* is no CoCa.*coca_ViT-L-14"):
        Coca(f"local-dir:{folders['vit']}", None).load(CPU, "fp32")
