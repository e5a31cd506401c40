"""Lessons: what meets what, and what cannot be taught."""

import pytest
import torch

from kt_exp.concepts import Concept
from kt_exp.errors import UserError
from kt_exp.finetune.lesson import plan_batches, plan_lesson

TOWER, DISH = Concept("tower", "a tall house"), Concept("dish", "a round plate")
KNOWN = [["a photo of a house.", "a house."], ["a photo of a wheel."]]


def test_each_image_is_met_once_an_epoch_with_a_caption_of_its_own():
    captions_of = [[0, 1]] * 5 + [[2]] * 4
    batches = plan_batches(captions_of, batch_size=4, epochs=3, seed=0)
    assert [len(batch.images) for batch in batches] == [4, 4, 1] * 3
    met = [(int(i), int(c)) for batch in batches
           for i, c in zip(batch.images, batch.captions, strict=True)]
    for epoch in range(3):
        assert sorted(i for i, _ in met[epoch * 9:(epoch + 1) * 9]) == list(range(9))
    assert all(caption in captions_of[image] for image, caption in met)
    for image in range(5):  # Over two epochs an image meets both of its captions.
        first, second, third = (c for i, c in met if i == image)
        assert first != second
        assert first == third


def test_the_order_is_that_of_the_seed():
    def order(seed):
        return [b.images.tolist() for b in plan_batches([[0]] * 20, 4, 2, seed)]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0)[:5] != order(0)[5:]


def test_rehearsal_images_are_drawn_anew_at_each_step():
    batches = plan_batches([[0]] * 8, 4, 2, 0, rehearsal_images=50, rehearsal_batch=6)
    drawn = [batch.rehearsal.tolist() for batch in batches]
    assert all(len(set(some)) == 6 and max(some) < 50 for some in drawn)
    assert len({tuple(some) for some in drawn}) == 4


def test_a_lesson_holds_captions_and_what_its_loss_needs(settings):
    lesson = plan_lesson([TOWER, DISH], [3, 5], settings(captions="mixed", loss="bank"), KNOWN, 0)
    assert lesson.captions == ["A tower is a tall house.", "a photo of a tower.",
                               "A dish is a round plate.", "a photo of a dish."]
    assert lesson.negatives == KNOWN
    assert lesson.rehearsed == []
    for batch in lesson.batches:
        for image, caption in zip(batch.images.tolist(), batch.captions.tolist(), strict=True):
            assert (caption < 2) == (image < 3)


def test_only_what_is_used_is_part_of_a_lesson(settings):
    plain = plan_lesson([TOWER], [4], settings(), KNOWN, 0)
    assert (plain.negatives, plain.rehearsed) == ([], [])
    rehearsing = plan_lesson([TOWER], [4], settings(rehearsal=1.0), KNOWN, 0)
    assert rehearsing.rehearsed == ["a photo of a house.", "a photo of a wheel."]


def test_clip_loss_with_one_concept_is_refused(settings):
    with pytest.raises(UserError, match=r"^finetune\.loss: 'clip' learns nothing .* use ntxent"):
        plan_lesson([TOWER], [8], settings(loss="clip"), KNOWN, 0)


def test_clip_loss_is_refused_where_one_batch_alone_is_degenerate(settings):
    with pytest.raises(UserError, match="'clip' learns nothing"):
        plan_lesson([TOWER, DISH], [3, 2], settings(loss="clip", batch_size=4), KNOWN, 0)
    plan_lesson([TOWER, DISH], [3, 3], settings(loss="clip", batch_size=6), KNOWN, 0)


def test_ntxent_with_a_batch_of_one_is_refused(settings):
    for images, size in ((1, 4), (5, 4), (3, 1)):
        with pytest.raises(UserError, match=r"^finetune\.batch_size: leaves a batch of one image"):
            plan_lesson([TOWER], [images], settings(batch_size=size), KNOWN, 0)
    plan_lesson([TOWER], [5], settings(loss="bank"), KNOWN, 0)


def test_lessons_do_not_touch_the_global_random_state(settings):
    before = torch.random.get_rng_state()
    plan_lesson([TOWER], [8], settings(), KNOWN, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
