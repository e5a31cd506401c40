"""Fine-tuning: what it changes, what it leaves bit-equal, and the way back."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from open_clip.transformer import PatchDropout

from kt_exp.concepts import Concept
from kt_exp.errors import UserError
from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.objectives import _distance
from kt_exp.finetune.plan import plan_training
from kt_exp.finetune.strategies import trained_parameters
from kt_exp.finetune.train import _optimizer, train
from kt_exp.models.weights import Weights, restored

CONCEPT = Concept("tower", "a tall house with a roof")
KNOWN = [["a photo of a house."], ["a photo of a wheel."], ["a dish.", "a photo of a dish."]]
STRATEGIES = ["visual", "visual_trunk", "text", "both", "projection", "all"]


def pictures(model, count=8, seed=0):
    size = model.image_size
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def learn(model, settings, seed=0, rehearsal=0):
    plan = plan_training([CONCEPT], [8], settings, KNOWN, seed)
    rehearsed = pictures(model, len(plan.rehearsed), seed=1)
    with restored(model):
        return train(model, pictures(model), rehearsed, plan, settings, lambda loss: None,
                     FeatureCache())


def trained_names(model, strategy):
    text = {name for name in model.module.state_dict()
            if not name.startswith("visual.") and name not in ("logit_scale", "attn_mask")}
    visual = {name for name in model.module.state_dict() if name.startswith("visual.")}
    projection = {name for name in visual
                  if name == "visual.proj" or name.startswith("visual.attnpool.c_proj.")}
    return {"visual": visual, "visual_trunk": visual - projection, "text": text,
            "both": visual | text, "projection": projection, "all": visual | text}[strategy]


@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_changes_what_it_names_and_nothing_else(request, settings, kind, mode, strategy):
    model = request.getfixturevalue(kind)
    before = {name: t.clone() for name, t in model.module.state_dict().items()}
    changed, _ = learn(model, settings(strategy=strategy, mode=mode, loss="class_ce"))
    assert changed
    assert changed.keys() <= trained_names(model, strategy)
    learnable = [name for name, p in trained_parameters(model, strategy).items() if p.ndim > 1]
    missing = [name for name in learnable if name not in changed]
    assert len(missing) <= len(learnable) // 4
    assert all(torch.equal(before[name], t) for name, t in model.module.state_dict().items())


def test_statistics_of_batch_norm_move_in_train_mode_only_where_they_are_trained(resnet, settings):
    def statistics(**changes):
        changed, _ = learn(resnet, settings(loss="class_ce", **changes))
        return {name for name in changed if "running_" in name}

    assert statistics(mode="train", strategy="visual")
    assert not statistics(mode="eval", strategy="visual")
    assert not statistics(mode="train", strategy="text")
    assert not statistics(mode="train", strategy="projection")


@pytest.mark.parametrize("loss", ["ntxent", "class_ce"])
def test_the_loss_falls_and_images_come_closer_to_the_caption(vit, settings, loss):
    chosen = settings(loss=loss, epochs=10)
    changed, values = learn(vit, chosen)
    assert len(values) == 20
    assert sum(values[-2:]) < sum(values[:2])
    caption = ["A tower is a tall house with a roof"] * 8
    before = vit.score(pictures(vit), caption).mean()
    with Weights("changed", changed).applied(vit), torch.no_grad():
        assert vit.score(pictures(vit), caption).mean() > before


def test_the_same_seed_gives_the_same_bits(vit, settings):
    first, second, other = (learn(vit, settings(), seed) for seed in (0, 0, 1))
    assert first[1] == second[1]
    assert all(torch.equal(tensor, second[0][name]) for name, tensor in first[0].items())
    assert first[1] != other[1]


@pytest.mark.parametrize(("strategy", "every_step"), [("visual", False), ("text", True)])
def test_known_classes_are_encoded_again_where_the_text_encoder_learns(
    vit, settings, monkeypatch, strategy, every_step
):
    encoded = []
    encode = vit.encode_text
    monkeypatch.setattr(vit, "encode_text", lambda texts: encoded.append(list(texts)) or
                        encode(texts))
    _, losses = learn(vit, settings(strategy=strategy, loss="class_ce"))
    known = [texts for texts in encoded if KNOWN[0][0] in texts]
    assert len(known) == (1 + len(losses) if every_step else 1)


def drift(model, changed, images):
    with torch.no_grad():
        before = model.encode_image(images)
        with Weights("changed", changed).applied(model):
            return (model.encode_image(images) - before).square().sum(-1).mean().item()


def test_distillation_holds_the_images_near_the_frozen_model(vit, settings):
    free, held = (learn(vit, settings(distillation=weight, epochs=10))[0] for weight in (0., 100.))
    assert drift(vit, held, pictures(vit)) < 0.3 * drift(vit, free, pictures(vit))


def test_distillation_over_the_mean_is_the_authors_mean_squared_error(vit, settings):
    """kd_weight = k in their script is k / D as the weight of the squared L2 distance."""
    dimensions = vit.encode_text(["a house"]).shape[1]
    over_sum = learn(vit, settings(distillation=8.0 / dimensions))[1]
    over_mean = learn(vit, settings(distillation=8.0, distillation_over="mean"))[1]
    assert over_mean == pytest.approx(over_sum, rel=1e-5)
    assert over_mean != pytest.approx(learn(vit, settings(distillation=8.0))[1], rel=1e-5)
    student, teacher = torch.rand(4, dimensions), torch.rand(4, dimensions)
    torch.testing.assert_close(_distance(student, teacher) / dimensions,
                               torch.nn.functional.mse_loss(student, teacher))


def test_captions_are_encoded_at_each_step_with_the_dropout_of_training(vit, settings):
    """The authors' script calls `model.train()`, which leaves dropout on in the text encoder."""
    model = deepcopy(vit)
    model.module.token_embedding = torch.nn.Sequential(model.module.token_embedding,
                                                       torch.nn.Dropout(0.1)).eval()
    read, encode = [], model.encode_text

    def remembering(captions, normalize=True):
        read.append(encode(captions, normalize).detach())
        return encode(captions, normalize)

    model.encode_text = remembering
    chosen = {"mode": "train", "encode_captions": "each_step", "epochs": 2}
    learn(model, settings(**chosen))
    before_training, *steps = read
    assert len(steps) == 4
    assert not any(torch.equal(one, other) for one, other in pairwise(steps))
    read.clear()
    learn(model, settings(mode="train", epochs=2))
    assert len(read) == 1
    assert torch.equal(read[0], before_training)


def test_rehearsal_holds_what_is_rehearsed_near_the_frozen_model(vit, settings):
    chosen = {"epochs": 10, "rehearsal_batch": 3}
    free = learn(vit, settings(**chosen))[0]
    held = learn(vit, settings(rehearsal=100.0, **chosen))[0]
    rehearsed = pictures(vit, 3, seed=1)
    assert drift(vit, held, rehearsed) < 0.3 * drift(vit, free, rehearsed)


def test_the_temperature_may_be_that_of_pre_training(vit, settings):
    learned = learn(vit, settings(temperature="model"))[1]
    assert learned == learn(vit, settings(temperature=1 / vit.logit_scale.item()))[1]
    assert learned != learn(vit, settings(temperature=1.0))[1]


def step(settings, value=2.0, gradient=0.5):
    parameter = torch.nn.Parameter(torch.tensor([value]))
    optimizer = _optimizer([parameter], settings)
    parameter.grad = torch.tensor([gradient])
    optimizer.step()
    return parameter.item()


def test_adam_couples_weight_decay_and_adamw_does_not(settings):
    """A first step of Adam is lr · sign(g), where coupled decay is part of g."""
    decay = {"lr": 0.1, "weight_decay": 0.5}
    assert step(settings(optimizer="adam", **decay), gradient=-0.5) == pytest.approx(1.9, abs=1e-4)
    assert step(settings(optimizer="adamw", **decay), gradient=-0.5) == pytest.approx(
        2 * (1 - 0.1 * 0.5) + 0.1, abs=1e-4)


@pytest.mark.parametrize("lr", [1e30, float("inf")])
def test_a_loss_that_breaks_is_refused(vit, settings, lr):
    before = vit.fingerprint()
    with pytest.raises(UserError, match=r"^finetune: the loss became .* lower finetune\.lr"):
        learn(vit, settings(lr=lr))
    assert vit.fingerprint() == before


def test_a_step_beyond_float32_is_refused(vit, settings):
    with pytest.raises(UserError, match=r"^finetune\.lr: a step with it is beyond what float32"):
        learn(vit, settings(lr=1e38))


def test_weights_that_break_at_the_last_step_are_refused(vit, settings):
    model = deepcopy(vit)
    model.module.visual.proj.requires_grad_(True).register_hook(lambda grad: grad * float("nan"))
    with pytest.raises(UserError, match=r"^finetune: the weights became .* lower finetune\.lr"):
        learn(model, settings(epochs=1, batch_size=100))


def test_the_model_is_as_before_also_after_an_exception(vit):
    before = vit.fingerprint()
    changes = {"visual.proj": torch.zeros_like(vit.module.state_dict()["visual.proj"])}

    def fail():
        with Weights("changed", changes).applied(vit):
            assert vit.fingerprint() != before
            vit.module.train().requires_grad_(True)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert vit.fingerprint() == before
    assert not vit.module.training
    assert not any(p.requires_grad for p in vit.module.parameters())


def test_a_strategy_of_which_the_model_has_nothing():
    class WithoutProjection:
        def towers(self):
            return {"visual": {"a": 1}, "visual_projection": {}, "text": {"b": 2}}

    model = WithoutProjection()
    assert trained_parameters(model, "visual_trunk") == {"a": 1}
    for strategy in ("projection", "visual_decoder"):
        with pytest.raises(UserError, match=f"no parameters for '{strategy}'; choose visual or"):
            trained_parameters(model, strategy)


def test_what_a_process_drew_before_does_not_change_dropout(vit, settings):
    model = deepcopy(vit)
    model.module.visual.patch_dropout = PatchDropout(0.5)
    found = []
    for before in (1, 2):
        torch.manual_seed(before)
        found.append(learn(model, settings(mode="train"))[1])
        drawn = torch.rand(1)
        torch.manual_seed(before)
        assert torch.equal(drawn, torch.rand(1))  # and what it draws next is as without
    assert found[0] == found[1]
    assert found[0] != learn(model, settings(mode="train"), seed=1)[1]


@pytest.mark.parametrize("strategy", ["visual", "projection"])
def test_a_model_given_back_is_as_it_was_even_after_a_failure(vit, settings, strategy):
    before = {name: t.clone() for name, t in vit.module.state_dict().items()}
    fingerprint = vit.fingerprint()

    def stop(loss):
        raise KeyboardInterrupt

    plan = plan_training([CONCEPT], [8], settings(), KNOWN, 0)
    with pytest.raises(KeyboardInterrupt), restored(vit):
        train(vit, pictures(vit), pictures(vit, 0), plan, settings(strategy=strategy), stop,
              FeatureCache())
    assert all(torch.equal(before[name], t) for name, t in vit.module.state_dict().items())
    assert vit.fingerprint() == fingerprint
    assert not any(module.training for module in vit.module.modules())
    assert all(not p.requires_grad and p.grad is None for p in vit.module.parameters())


def test_features_computed_once_teach_the_projection_the_same(vit, settings, monkeypatch):
    chosen = settings(strategy="projection", loss="class_ce", distillation=1.0, rehearsal=1.0)
    quick, losses = learn(vit, chosen)
    monkeypatch.setattr("kt_exp.finetune.objectives._trunk_is_constant", lambda settings: False)
    slow, same = learn(vit, chosen)
    assert quick.keys() == slow.keys() == {"visual.proj"}
    torch.testing.assert_close(quick["visual.proj"], slow["visual.proj"], rtol=1e-4, atol=1e-5)
    assert losses == pytest.approx(same, rel=1e-4)
