"""Lessons: what meets what, and what cannot be taught."""

import pytest
import torch

from kt_exp.concepts import Concept
from kt_exp.data.imagenet import class_names
from kt_exp.errors import UserError
from kt_exp.finetune.plan import plan_training

TOWER, DISH = Concept("tower", "a tall house"), Concept("dish", "a round plate")
KNOWN = [["a photo of a house.", "a house."], ["a photo of a wheel."]]


def test_each_image_is_met_once_an_epoch_with_a_caption_of_its_own(settings):
    chosen = settings(captions="mixed", batch_size=4, epochs=3)
    plan = plan_training([TOWER, DISH], [5, 5], chosen, KNOWN, 0)
    assert [len(batch.images) for batch in plan.batches] == [4, 4, 2] * 3
    met = [(int(i), int(c)) for batch in plan.batches
           for i, c in zip(batch.images, batch.captions, strict=True)]
    for epoch in range(3):
        assert sorted(i for i, _ in met[epoch * 10:(epoch + 1) * 10]) == list(range(10))
    assert all((caption < 2) == (image < 5) for image, caption in met)
    for image in range(10):  # Over two epochs an image meets both of its captions.
        first, second, third = (c for i, c in met if i == image)
        assert first != second
        assert first == third


def test_the_order_is_that_of_the_seed(settings):
    def order(seed):
        plan = plan_training([TOWER], [20], settings(epochs=2), KNOWN, seed)
        return [batch.images.tolist() for batch in plan.batches]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0)[:5] != order(0)[5:]


def test_rehearsal_images_are_drawn_anew_at_each_step(settings):
    chosen = settings(rehearsal=1.0, rehearsal_per_class=25, rehearsal_batch=6, epochs=2)
    drawn = [batch.rehearsal.tolist()
             for batch in plan_training([TOWER], [8], chosen, KNOWN, 0).batches]
    assert all(len(set(some)) == 6 and max(some) < 50 for some in drawn)
    assert len({tuple(some) for some in drawn}) == 4


def test_a_prompt_that_two_classes_share_is_rehearsed_once(settings):
    prompts = [[f"a photo of a {name}."] for name in class_names()]
    chosen = settings(rehearsal=1.0, rehearsal_batch=1000)
    plan = plan_training([TOWER], [8], chosen, prompts, 0)
    assert len(plan.rehearsed) == len(set(plan.rehearsed)) == 998  # missile, sunglasses
    assert all(sorted(batch.rehearsal.tolist()) == list(range(998)) for batch in plan.batches)


def test_negatives_are_captions_of_the_other_concepts(settings):
    chosen = settings(loss="itm", itm_negatives_per_image=3, epochs=4)
    plan = plan_training([TOWER, DISH, Concept("ball", "a round thing")], [4, 4, 4], chosen, [], 0)
    assert plan.negative_captions == plan.captions
    drawn = set()
    for batch in plan.batches:
        assert batch.negatives.shape == (4, 3)
        for image, others in zip(batch.images.tolist(), batch.negatives.tolist(), strict=True):
            assert image // 4 not in others
            drawn |= set(others)
    assert drawn == {0, 1, 2}


@pytest.mark.parametrize(("concepts", "source"), [
    ([TOWER], "concepts"), ([TOWER], "known"), ([TOWER, DISH], "known")])
def test_a_concept_alone_has_the_known_classes_as_negatives(settings, concepts, source):
    chosen = settings(loss="itm", itm_negatives=source)
    plan = plan_training(concepts, [40] * len(concepts), chosen, KNOWN, 0)
    assert plan.negative_captions == ["a photo of a house.", "a house.", "a photo of a wheel."]
    drawn = torch.cat([batch.negatives for batch in plan.batches]).flatten()
    assert drawn.unique().tolist() == [0, 1, 2]


def test_itm_without_any_negatives_is_refused(settings):
    with pytest.raises(UserError, match=r"^finetune\.loss: 'itm' finds no negative captions"):
        plan_training([TOWER], [8], settings(loss="itm"), [], 0)


@pytest.mark.parametrize(("changes", "key"), [
    ({"loss": "class_ce"}, "loss"), ({"rehearsal": 1.0}, "rehearsal")])
def test_what_needs_known_classes_is_refused_where_there_are_none(settings, changes, key):
    with pytest.raises(UserError, match=rf"^finetune\.{key}: .*needs known classes, and this"):
        plan_training([TOWER, DISH], [8, 8], settings(**changes), [], 0)


def test_each_image_meets_a_masking_of_its_own_and_the_next_at_the_next_epoch(settings):
    chosen = settings(loss="mlm", maskings=10, epochs=2)
    plan = plan_training([TOWER], [10], chosen, KNOWN, 0)
    first, second = plan.batches[:3], plan.batches[3:]
    assert [len(batch.images) for batch in first] == [4, 4, 2]  # three steps, paper D.3.1
    for batch in first:
        assert torch.equal(batch.maskings, batch.images)
    for batch in second:
        assert torch.equal(batch.maskings, (batch.images + 1) % 10)


def test_what_a_captioner_shall_say_is_drawn_for_each_image_at_each_step(settings):
    chosen = settings(caption_weight=0.1, epochs=20,
                      caption_targets=["a photo of the {}.", "a {}.", "itap of a {}."])
    plan = plan_training([TOWER, Concept("urn", "a pot")], [4, 4], chosen, KNOWN, 0)
    assert plan.targets == ["a photo of the tower.", "a tower.", "itap of a tower.",
                              "a photo of the urn.", "an urn.", "itap of an urn."]
    met = [(i, t) for batch in plan.batches
           for i, t in zip(batch.images.tolist(), batch.targets.tolist(), strict=True)]
    assert all((image < 4) == (target < 3) for image, target in met)
    assert {target for image, target in met if image == 0} == {0, 1, 2}


def test_a_plan_holds_captions_and_what_its_loss_needs(settings):
    chosen = settings(captions="mixed", loss="class_ce")
    plan = plan_training([TOWER, DISH], [3, 5], chosen, KNOWN, 0)
    assert plan.captions == ["A tower is a tall house.", "a photo of a tower.",
                               "A dish is a round plate.", "a photo of a dish."]
    assert plan.negatives == KNOWN
    assert plan.rehearsed == []
    for batch in plan.batches:
        for image, caption in zip(batch.images.tolist(), batch.captions.tolist(), strict=True):
            assert (caption < 2) == (image < 3)


def test_only_what_is_used_is_part_of_a_lesson(settings):
    plain = plan_training([TOWER], [4], settings(), KNOWN, 0)
    assert (plain.negatives, plain.rehearsed) == ([], [])
    assert (plain.targets, plain.negative_captions) == ([], [])
    assert all(not batch.targets.numel() + batch.negatives.numel() + batch.maskings.sum()
               for batch in plain.batches)
    rehearsing = plan_training([TOWER], [4], settings(rehearsal=1.0), KNOWN, 0)
    assert rehearsing.rehearsed == ["a photo of a house.", "a photo of a wheel."]


def test_clip_loss_with_one_concept_is_refused(settings):
    with pytest.raises(UserError, match=r"^finetune\.loss: 'clip' learns nothing .* use ntxent"):
        plan_training([TOWER], [8], settings(loss="clip"), KNOWN, 0)


def test_clip_loss_is_refused_where_one_batch_alone_is_degenerate(settings):
    with pytest.raises(UserError, match="'clip' learns nothing"):
        plan_training([TOWER, DISH], [3, 2], settings(loss="clip", batch_size=4), KNOWN, 0)
    plan_training([TOWER, DISH], [3, 3], settings(loss="clip", batch_size=6), KNOWN, 0)


def test_ntxent_with_a_batch_of_one_is_refused(settings):
    for images, size in ((1, 4), (5, 4), (3, 1)):
        with pytest.raises(UserError, match=r"^finetune\.batch_size: leaves a batch of one image"):
            plan_training([TOWER], [images], settings(batch_size=size), KNOWN, 0)
    plan_training([TOWER], [5], settings(loss="class_ce"), KNOWN, 0)


def test_a_batch_is_not_refused_for_a_loss_that_has_no_weight(settings):
    chosen = settings(loss="clip", contrastive_weight=0.0, caption_weight=1.0,
                      caption_targets=["a {}."])
    assert plan_training([TOWER], [8], chosen, KNOWN, 0).batches


def test_lessons_do_not_touch_the_global_random_state(settings):
    before = torch.random.get_rng_state()
    plan_training([TOWER], [8], settings(), KNOWN, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
