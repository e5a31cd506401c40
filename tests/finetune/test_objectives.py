"""What is minimised for pair matchers and captioners, and what is refused."""

import pytest
import torch
import torch.nn.functional as F

from kt_exp.concepts import Concept
from kt_exp.errors import UserError
from kt_exp.finetune import losses
from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.objectives import check_objective, objective
from kt_exp.finetune.plan import plan_training
from kt_exp.finetune.train import train
from kt_exp.models.weights import Weights, restored

TOWER, DISH = Concept("tower", "tall house"), Concept("dish", "round plate")
KNOWN = [["a photo of a red house."], ["a photo of a blue house."]]
RED, BLUE = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])
NONE = torch.empty(0, 3, 4, 4)
TARGETS = {"caption_weight": 0.1, "caption_targets": ["a photo of a {}", "a red {}"]}


def images(*counts):
    """Red images of the first concept, blue ones of the second."""
    colours = [colour for colour, count in zip((RED, BLUE), counts, strict=False)
               for _ in range(count)]
    return torch.stack(colours)[:, :, None, None].expand(-1, 3, 4, 4).contiguous()


def learn(model, plan, pictures, settings):
    with restored(model):
        return train(model, pictures, NONE, plan, settings, lambda loss: None, FeatureCache())


def test_itm_is_the_cross_entropy_of_matches_and_of_what_does_not_match(matcher, settings):
    chosen = settings(loss="itm", itm_negatives_per_image=2)
    model, pictures = matcher, images(4, 4)
    plan = plan_training([TOWER, DISH], [4, 4], chosen, KNOWN, 0)
    for batch in plan.batches:
        loss = objective(model, pictures, NONE, plan, chosen, FeatureCache())(batch)
        terms = []
        for i, own, others in zip(*(part.tolist() for part in (
                batch.images, batch.captions, batch.negatives)), strict=True):
            pairs = [(plan.captions[own], 1)]
            pairs += [(plan.negative_captions[other], 0) for other in others]
            for caption, match in pairs:
                logits = model.match(pictures[i:i + 1], [caption])
                terms.append(F.cross_entropy(logits, torch.tensor([match])).item())
        assert len(terms) == 12
        assert loss.item() == pytest.approx(sum(terms) / 12, rel=1e-5)


def test_itm_teaches_which_caption_belongs_to_an_image(matcher, settings):
    chosen = settings(loss="itm", strategy="all", lr=0.05, epochs=20)
    model, pictures = matcher, images(4, 4)
    plan = plan_training([TOWER, DISH], [4, 4], chosen, KNOWN, 0)
    changed, values = learn(model, plan, pictures, chosen)
    assert values[-1] < 0.1 < values[0]
    with Weights("changed", changed).applied(model):
        own = model.match(pictures[[0, 4]], plan.captions).argmax(dim=1)
        other = model.match(pictures[[4, 0]], plan.captions).argmax(dim=1)
    assert (own.tolist(), other.tolist()) == ([1, 1], [0, 0])


def test_mlm_masks_each_caption_in_several_ways_once_and_for_all(matcher, settings):
    chosen = settings(loss="mlm", maskings=3, mask_probability=0.5)
    model, pictures = matcher, images(6, 6)
    plan = plan_training([TOWER, DISH], [6, 6], chosen, KNOWN, 0)
    met = {}
    model.masked_lm_loss = lambda images, masked: met.update(
        {tuple(ids): labels for ids, labels in
         zip(masked.ids.tolist(), masked.labels.tolist(), strict=True)})
    for run in (1, 2):
        loss_of = objective(model, pictures, NONE, plan, chosen, FeatureCache())
        for batch in plan.batches:
            loss_of(batch)
        assert 3 < len(met) <= 6, run  # two captions, three maskings; some may look alike
    for ids, labels in met.items():
        shown = [label if label >= 0 else word for word, label in zip(ids, labels, strict=True)]
        assert any(label >= 0 for label in labels)
        assert shown in ([2, 4, 3, 5, 6], [2, 7, 3, 8, 9])


@pytest.mark.parametrize("seed", [0, 1])
def test_mlm_teaches_and_repeats_itself_bit_by_bit(matcher, settings, seed):
    chosen = settings(loss="mlm", strategy="all", lr=0.05, epochs=10)
    plan = plan_training([TOWER], [10], chosen, KNOWN, seed)
    first, again = (learn(matcher, plan, images(10), chosen) for _ in range(2))
    assert first[1] == again[1]
    assert sum(first[1][-3:]) < 0.5 * sum(first[1][:3])


def test_a_captioner_learns_by_both_losses(captioner, settings):
    chosen = settings(**TARGETS, contrastive_weight=2.0)
    model, pictures = captioner, images(4, 4)
    plan = plan_training([TOWER, DISH], [4, 4], chosen, KNOWN, 0)
    batch = plan.batches[0]
    loss = objective(model, pictures, NONE, plan, chosen, FeatureCache())(batch)
    own = pictures[batch.images]
    contrastive = losses.ntxent(model.encode_image(own), model.encode_text(
        [plan.captions[i] for i in batch.captions]), 0.07)
    said = [plan.targets[i] for i in batch.targets]
    assert model.heard == said
    assert all(("tower" in caption) == (i < 4)
               for i, caption in zip(batch.images.tolist(), said, strict=True))
    assert loss.item() == pytest.approx(
        (2 * contrastive + 0.1 * model.caption_loss(own, said)).item(), rel=1e-5)


@pytest.mark.parametrize(("strategy", "parts"), [
    ("visual", {"visual"}), ("visual_decoder", {"visual", "decoder"}),
    ("all", {"visual", "decoder", "words"})])
def test_the_decoder_learns_where_the_strategy_says_so(captioner, settings, strategy, parts):
    chosen = settings(**TARGETS, strategy=strategy)
    plan = plan_training([TOWER, DISH], [4, 4], chosen, KNOWN, 0)
    changed, _ = learn(captioner, plan, images(4, 4), chosen)
    assert {name.split(".")[0] for name in changed} == parts


@pytest.mark.parametrize(("model", "changes", "line"), [
    ("vit", {"loss": "itm"}, "finetune.loss: the model cannot learn by 'itm'; "
                             "choose one of: ntxent, clip, class_ce (as in finetune=paper)"),
    ("matcher", {"loss": "ntxent"}, "finetune.loss: the model cannot learn by 'ntxent'; "
                                    "choose one of: itm, mlm (as in finetune=vilt)"),
    ("vit", TARGETS, "finetune.caption_weight: the model has no decoder of captions; "
                     "set it to 0, or choose a captioner (model=coca)"),
])
def test_a_loss_that_the_model_cannot_compute_is_refused(request, settings, model, changes, line):
    with pytest.raises(UserError) as caught:
        check_objective(request.getfixturevalue(model), settings(**changes))
    assert str(caught.value) == line


def test_what_a_model_can_compute_passes(vit, matcher, captioner, settings):
    for model, losses_of in ((vit, ("ntxent", "clip", "class_ce")), (matcher, ("itm", "mlm")),
                             (captioner, ("ntxent",))):
        for loss in losses_of:
            check_objective(model, settings(loss=loss))
    check_objective(captioner, settings(**TARGETS))


def test_a_checkpoint_without_the_head_of_masked_words_is_refused_at_once(
    matcher, settings, monkeypatch
):
    def headless(captions, probability, generator):
        raise UserError("model.name", "the checkpoint has no head for masked words")

    monkeypatch.setattr(matcher, "mask_words", headless)
    with pytest.raises(UserError, match="no head for masked words"):
        check_objective(matcher, settings(loss="mlm"))
    check_objective(matcher, settings(loss="itm"))
