"""Updates off known features: what stays is computed here, from the inputs of layers."""

import pytest
import torch

from kt_exp.concepts import Concept
from kt_exp.errors import UserError
from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.null_space import leading_directions, second_moments, without
from kt_exp.finetune.plan import plan_training
from kt_exp.finetune.settings import LoraSettings
from kt_exp.finetune.strategies import trained_parameters
from kt_exp.finetune.train import train
from kt_exp.finetune.updates import check_updates
from kt_exp.models.linear_maps import linear_maps
from kt_exp.models.split import split
from kt_exp.models.weights import Weights, restored

CONCEPT = Concept("tower", "a tall house with a roof")
FULL = LoraSettings(rank=0, alpha=16.0, targets=["*"])
LORA = LoraSettings(rank=4, alpha=16.0, targets=["*"])


def random_images(model, count, seed):
    size = model.image_size
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def learn(model, settings, known=1):
    """Train on 8 images, with `known` rehearsal images; return the changes."""
    prompts = [[f"a photo of a {name}."] for name in ("house", "wheel", "dish")[:known]]
    plan = plan_training([CONCEPT], [8], settings, prompts, 0)
    with restored(model):
        return train(model, random_images(model, 8, 0), random_images(model, known, 1), plan,
                     settings, lambda loss: None, FeatureCache())[0]


@pytest.fixture
def protecting(settings):
    """Makes settings that protect nearly all of the known features."""
    return lambda **changes: settings(**{"loss": "class_ce", "rehearsal": 1.0, "epochs": 5,
                                         "lr": 1e-2, "null_space": 0.9999999, **changes})


@torch.no_grad()
def moved(model, changed, images):
    """By how much the embeddings of images change."""
    before = model.encode_image(images, normalize=False)
    with Weights("changed", changed).applied(model):
        return (model.encode_image(images, normalize=False) - before).abs().max().item()


@pytest.mark.parametrize("lora", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize(("strategy", "known"), [
    ("projection", 3),
    ("visual", 1),  # its 17 tokens leave 15 of 32 dimensions free in each layer
])
def test_embeddings_of_known_images_stay_while_others_change(vit, protecting, strategy, known,
                                                             lora):
    if lora.rank:
        pytest.importorskip("peft")
    changed = learn(vit, protecting(strategy=strategy, lora=lora), known)
    assert moved(vit, changed, random_images(vit, known, 1)) < 1e-4
    assert moved(vit, changed, random_images(vit, 8, 0)) > 1e-2
    free = learn(vit, protecting(strategy=strategy, lora=lora, null_space=0.0), known)
    assert moved(vit, free, random_images(vit, known, 1)) > 1e-2


def test_the_top_of_an_encoder_is_protected_on_known_features(vit, protecting):
    top, chosen = split(vit, "last_1"), protecting(strategy="visual")
    check_updates(top, chosen)
    known, others = (top.features_of(random_images(vit, count, seed))
                     for count, seed in ((1, 1), (8, 0)))
    plan = plan_training([CONCEPT], [8], chosen, [["a photo of a house."]], 0)
    with restored(top):
        changed, _ = train(top, others, known, plan, chosen, lambda loss: None, FeatureCache())
    assert all(name == "visual.proj" or ".resblocks.1." in name for name in changed)
    assert moved(top, changed, known) < 1e-4
    assert moved(top, changed, others) > 1e-2


def test_only_linear_layers_are_trained(vit, protecting):
    changed = learn(vit, protecting(strategy="both"))
    names = {place.name for place in linear_maps(vit, trained_parameters(vit, "both"))}
    assert changed.keys() == names


def test_known_prompts_protect_the_text_encoder(vit, protecting):
    changed = learn(vit, protecting(strategy="text"))
    with torch.no_grad():
        known, other = ["a photo of a house."], ["tower, a photo"]
        before = [vit.encode_text(texts) for texts in (known, other)]
        with Weights("changed", changed).applied(vit):
            after = [vit.encode_text(texts) for texts in (known, other)]
    change = [(new - old).abs().max() for new, old in zip(after, before, strict=True)]
    assert change[0] < 1e-4
    assert change[1] > 1e-2


def test_the_attention_pool_of_a_resnet_is_protected(resnet, protecting):
    known = random_images(resnet, 3, 1)
    changed = learn(resnet, protecting(strategy="projection"), 3)
    assert changed.keys() == {"visual.attnpool.c_proj.weight"}
    assert moved(resnet, changed, known) < 1e-4
    free = learn(resnet, protecting(strategy="projection", null_space=0.0), 3)
    assert moved(resnet, free, known) > 1e-3


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_weight_decay_leaves_them_too(vit, protecting, optimizer):
    changed = learn(vit, protecting(strategy="projection", optimizer=optimizer, weight_decay=0.5))
    assert moved(vit, changed, random_images(vit, 1, 1)) < 1e-4


def test_the_more_is_protected_the_less_known_images_move(vit, protecting):
    moves = [moved(vit, learn(vit, protecting(strategy="projection", null_space=share), 3),
                   random_images(vit, 3, 1)) for share in (0.0, 0.5, 0.99)]
    assert moves == sorted(moves, reverse=True)


def test_second_moments_are_those_of_a_layers_inputs(vit):
    maps = linear_maps(vit, trained_parameters(vit, "visual"))
    name = "visual.transformer.resblocks.0.mlp.c_fc"
    images, seen = random_images(vit, 3, 2), []
    layer = vit.module.get_submodule(name)
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    moments = second_moments(vit, maps, images, [])
    hook.remove()
    assert moments.keys() == {place.name for place in maps}
    inputs = seen[0].flatten(0, 1).double()
    torch.testing.assert_close(moments[f"{name}.weight"], inputs.T @ inputs, rtol=1e-4, atol=1e-4)
    features = vit.encode_trunk(images).double()
    torch.testing.assert_close(moments["visual.proj"], features.T @ features, rtol=1e-4, atol=1e-4)


def test_inputs_are_met_under_autocast(vit, monkeypatch):
    maps = linear_maps(vit, trained_parameters(vit, "both"))
    exact = second_moments(vit, maps, random_images(vit, 2, 0), ["a tower"])
    monkeypatch.setattr(vit, "_precision", "bf16")
    rounded = second_moments(vit, maps, random_images(vit, 2, 0), ["a tower"])
    assert rounded.keys() == exact.keys() == {place.name for place in maps}
    for name, moment in exact.items():
        torch.testing.assert_close(rounded[name], moment, rtol=0.1, atol=0.05 * moment.abs().max())


def test_leading_directions_hold_the_share_of_the_energy():
    scales = torch.tensor([10.0, 3.0, 1.0, 0.0])  # energies 100, 9 and 1
    axes = torch.linalg.qr(torch.rand(4, 4, generator=torch.Generator().manual_seed(0)))[0]
    moment = axes @ torch.diag(scales**2) @ axes.T
    for share, count in ((0.9, 1), (0.95, 2), (0.999, 3)):
        directions = leading_directions(moment, share)
        assert directions.shape == (4, count)
        torch.testing.assert_close(directions.T @ directions, torch.eye(count))
        rest = without(directions, torch.eye(4))
        torch.testing.assert_close(rest @ axes[:, :count], torch.zeros(4, count), atol=1e-5, rtol=0)
        torch.testing.assert_close(rest @ axes[:, count:], axes[:, count:], atol=1e-5, rtol=0)
    assert leading_directions(torch.zeros(4, 4), 0.9).shape == (4, 0)


def test_a_model_without_protected_layers_is_refused(vit, captioner, protecting, monkeypatch):
    check_updates(vit, protecting())
    with pytest.raises(UserError, match=r"^finetune\.null_space: finetune\.strategy 'text' trains "
                                        "no linear layer of this model; choose another strategy"):
        check_updates(captioner, protecting(strategy="text"))  # its words are an embedding
    for encode in ("encode_image", "encode_text"):
        monkeypatch.setattr(vit, encode, lambda inputs: torch.zeros(1, 16))
    with pytest.raises(UserError, match=r"^finetune\.null_space: known images and prompts reach "
                                        "none of the linear layers that are trained; "):
        check_updates(vit, protecting())
