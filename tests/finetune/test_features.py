"""Fine-tuning on features: only the layers above the cut change, all others stay bit-equal."""

import pytest
import torch

from kt_exp.concepts import Concept
from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.plan import plan_training
from kt_exp.finetune.train import train
from kt_exp.models.split import split
from kt_exp.models.weights import restored

CONCEPT = Concept("tower", "a tall house with a roof")
KNOWN = [["a photo of a house."], ["a photo of a wheel."]]


def pictures(model, count, seed=0):
    size = model.image_size
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def learn(model, settings, layers=None):
    """Train on images, or on the features that the layers below the cut make of them."""
    plan = plan_training([CONCEPT], [8], settings, KNOWN, 0)
    images, rehearsed = pictures(model, 8), pictures(model, len(plan.rehearsed), seed=1)
    learner = model
    if layers:
        learner = split(model, layers)
        images = learner.features_of(images)
        rehearsed = learner.features_of(rehearsed) if len(rehearsed) else rehearsed
    with restored(model):
        return train(learner, images, rehearsed, plan, settings, lambda loss: None, FeatureCache())


@pytest.mark.parametrize(("kind", "layers"), [
    ("vit", "last_1"), ("vit", "projection"), ("resnet", "last_1"), ("resnet", "last_3")])
@pytest.mark.parametrize("strategy", ["visual", "all"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_layers_below_the_cut_stay_bit_equal(request, settings, kind, layers, strategy, mode):
    model = request.getfixturevalue(kind)
    changed, _ = learn(model, settings(strategy=strategy, mode=mode, loss="class_ce",
                                       weight_decay=0.2, rehearsal=1.0), layers)
    above = split(model, layers).towers()["visual"].keys()
    below = model.towers()["visual"].keys() - above
    assert changed.keys() & above
    assert not changed.keys() & below


@pytest.mark.parametrize("strategy", ["visual", "projection"])
@pytest.mark.parametrize("extra", [{}, {"rehearsal": 1.0, "distillation": 1.0}])
def test_features_teach_the_projection_what_their_images_do(vit, settings, strategy, extra):
    chosen = settings(strategy=strategy, loss="class_ce", **extra)
    on_features, losses = learn(vit, chosen, "projection")
    on_images, wanted = learn(vit, settings(strategy="projection", loss="class_ce", **extra))
    torch.testing.assert_close(losses, wanted)
    torch.testing.assert_close(on_features["visual.proj"], on_images["visual.proj"])


def test_features_of_all_blocks_teach_these_what_images_do(resnet, settings):
    """The stem alone is below: its changes are what training on images adds."""
    chosen = settings(strategy="visual", loss="class_ce", batch_size=8)  # one step
    on_features, losses = learn(resnet, chosen, "last_4")
    on_images, wanted = learn(resnet, chosen)
    torch.testing.assert_close(losses, wanted)
    for name, tensor in on_features.items():
        torch.testing.assert_close(tensor, on_images[name], rtol=1e-3, atol=1e-4)
