"""LoRA: what is adapted, of which rank, and that the merged weights are what was trained."""

import pytest
import torch

from kt_exp.concepts import Concept
from kt_exp.errors import UserError
from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.lora import adapted
from kt_exp.finetune.plan import plan_training
from kt_exp.finetune.settings import LoraSettings
from kt_exp.finetune.strategies import trained_parameters
from kt_exp.finetune.train import train
from kt_exp.finetune.updates import check_updates
from kt_exp.models.linear_maps import linear_maps
from kt_exp.models.weights import Weights, restored

pytest.importorskip("peft")

CONCEPT = Concept("tower", "a tall house with a roof")
KNOWN = [["a photo of a house."], ["a photo of a wheel."]]
ATTENTION = ("attn.in_proj_weight", "attn.out_proj.weight")
LINEAR = {  # of the towers of one or two layers in conftest.py
    "vit": ("visual.proj", *(f"visual.transformer.resblocks.{layer}.{name}" for layer in (0, 1)
                             for name in (*ATTENTION, "mlp.c_fc.weight", "mlp.c_proj.weight"))),
    "resnet": tuple(f"visual.attnpool.{name}_proj.weight" for name in "qkvc"),
}
TEXT = ("text_projection", *(f"transformer.resblocks.0.{name}"
                             for name in (*ATTENTION, "mlp.c_fc.weight", "mlp.c_proj.weight")))


def lora(rank=2, targets=("*",)):
    return LoraSettings(rank=rank, alpha=8.0, targets=list(targets))


def pictures(model):
    size = model.image_size
    return torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(0))


def learn(model, settings, seed=0):
    plan = plan_training([CONCEPT], [8], settings, KNOWN, seed)
    size = model.image_size
    with restored(model):
        return train(model, pictures(model), torch.empty(0, 3, size, size), plan, settings,
                     lambda loss: None, FeatureCache())


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("strategy", ["visual", "text", "both", "projection"])
def test_all_linear_layers_of_the_strategy_change_by_the_rank(request, settings, kind, strategy,
                                                              mode):
    model = request.getfixturevalue(kind)
    before = {name: t.clone() for name, t in model.module.state_dict().items()}
    changed, _ = learn(model, settings(strategy=strategy, mode=mode, loss="class_ce", lora=lora()))
    projection = {"vit": "visual.proj", "resnet": "visual.attnpool.c_proj.weight"}[kind]
    expected = {"visual": LINEAR[kind], "text": TEXT, "both": LINEAR[kind] + TEXT,
                "projection": (projection,)}[strategy]
    # Keys that all queries meet alike change no attention, so they may have no gradient.
    assert changed.keys() | {"visual.attnpool.k_proj.weight"} >= set(expected)
    assert changed.keys() <= set(expected)
    for name, tensor in changed.items():
        assert 1 <= torch.linalg.matrix_rank(tensor - before[name], rtol=1e-4) <= 2
    assert all(torch.equal(before[name], t) for name, t in model.module.state_dict().items())


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_merged_weights_give_what_the_adapters_gave(request, kind):
    model = request.getfixturevalue(kind)
    maps = linear_maps(model, trained_parameters(model, "both"))
    images, captions = pictures(model), ["a tower", "a house"]
    with restored(model), torch.no_grad():
        start = model.encode_image(images), model.encode_text(captions)
        with adapted(maps, lora()) as adapters:
            for adapter in adapters:
                torch.nn.init.normal_(adapter.up, std=0.1)
            inside = model.encode_image(images), model.encode_text(captions)
        merged = model.encode_image(images), model.encode_text(captions)
    for before, with_adapters, after in zip(start, inside, merged, strict=True):
        assert (with_adapters - before).abs().max() > 1e-2
        torch.testing.assert_close(after, with_adapters, rtol=0, atol=1e-5)


def test_training_starts_from_the_model_as_it_is_and_lowers_the_loss(vit, settings):
    full, adapted = (learn(vit, settings(loss="class_ce", lr=1e-2, epochs=5, lora=lora(rank)))
                     for rank in (0, 2))
    assert adapted[1][0] == pytest.approx(full[1][0], abs=1e-6)
    assert sum(adapted[1][-2:]) < sum(adapted[1][:2])


def test_the_same_seed_gives_the_same_bits(vit, settings):
    first, second, other = (learn(vit, settings(lora=lora()), seed) for seed in (0, 0, 1))
    assert first[1] == second[1]
    assert all(torch.equal(tensor, second[0][name]) for name, tensor in first[0].items())
    assert first[1] != other[1]


def test_targets_choose_among_the_layers(vit, settings):
    targets = ["visual.proj", "*.1.mlp.*"]
    changed, _ = learn(vit, settings(loss="class_ce", lora=lora(targets=targets)))
    assert changed.keys() == {"visual.proj", "visual.transformer.resblocks.1.mlp.c_fc.weight",
                              "visual.transformer.resblocks.1.mlp.c_proj.weight"}


def test_a_pair_matcher_is_adapted_too(matcher, settings):
    plan = plan_training([CONCEPT], [8], settings(loss="itm"), KNOWN, 0)
    with restored(matcher):
        changed, _ = train(matcher, pictures(matcher), torch.empty(0), plan,
                           settings(loss="itm", strategy="all", lora=lora(1)), lambda loss: None,
                           FeatureCache())
    assert changed.keys() == {"visual.weight", "head.weight"}  # the words are an embedding


def test_the_model_is_as_before_after_an_interruption(vit, settings):
    before, kinds = vit.fingerprint(), [type(module) for module in vit.module.modules()]
    plan = plan_training([CONCEPT], [8], settings(), KNOWN, 0)

    def interrupted(loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), restored(vit):
        train(vit, pictures(vit), torch.empty(0), plan, settings(lora=lora()), interrupted,
              FeatureCache())
    assert vit.fingerprint() == before
    assert [type(module) for module in vit.module.modules()] == kinds


def test_the_changes_load_into_a_model_without_peft(vit, settings):
    changed, _ = learn(vit, settings(loss="class_ce", lr=1e-2, lora=lora()))
    with torch.no_grad():
        before = vit.encode_image(pictures(vit))
        with Weights("changed", changed).applied(vit):
            assert (vit.encode_image(pictures(vit)) - before).abs().max() > 1e-3


def test_what_cannot_be_adapted_is_refused(vit, matcher, settings, monkeypatch):
    check_updates(vit, settings(lora=lora()))
    with pytest.raises(UserError, match=r"^finetune\.lora\.targets: '\*\.mpl\.\*' matches no linear"
                                        r" layer that finetune\.strategy 'visual' trains; "):
        check_updates(vit, settings(lora=lora(targets=["*.mpl.*"])))
    with pytest.raises(UserError, match=r"^finetune\.lora\.rank: finetune\.strategy 'text' trains "
                                        "no linear layer of this model; choose another strategy"):
        check_updates(matcher, settings(strategy="text", lora=lora()))
    monkeypatch.setattr("kt_exp.finetune.lora.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^finetune\.lora\.rank: LoRA needs the package peft, "
                                        r"which is not installed; pip install 'kt_exp\[lora\]'"):
        check_updates(vit, settings(lora=lora()))
