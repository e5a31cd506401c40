"""Learning rates and sizes, step by step."""

import pytest
from fixtures.configs import preset
from omegaconf import OmegaConf

from kt_exp.inversion.schedule import learning_rate, size_at, stage_start
from kt_exp.inversion.settings import InversionSettings


def rates(settings, steps):
    return [learning_rate(settings, step) for step in steps]


def test_a_constant_rate(settings):
    assert rates(settings(lr=0.1, lr_schedule="constant"), (0, 3, 7)) == [0.1] * 3


def test_cosine_over_the_run_falls_from_lr_to_nearly_zero(settings):
    run = settings(lr=0.1, steps=100, lr_period="run")
    assert rates(run, (0, 50)) == pytest.approx([0.1, 0.05])
    assert rates(run, (25, 75)) == pytest.approx([0.0853553, 0.0146447], abs=1e-6)
    assert 0 < rates(run, [99])[0] < 1e-4


def test_cosine_over_each_stage_starts_again_at_each_upsizing(settings):
    staged = settings(lr=0.1, steps=100, lr_period="stage", sizes=[8, 12, 16], upsize_at=[20, 60])
    assert rates(staged, (0, 10, 20, 40, 60, 80)) == pytest.approx([0.1, 0.05] * 3)


def test_cosine_of_a_fixed_period_swings_back_up_as_the_authors_does(settings):
    authors = settings(lr=0.1, steps=3000, lr_period=400, sizes=[64, 128, 224],
                       upsize_at=[900, 1800])
    assert rates(authors, (0, 200, 400, 600, 800)) == pytest.approx([0.1, 0.05, 0, 0.05, 0.1])
    assert rates(authors, (900, 1100, 1300)) == pytest.approx([0.1, 0.05, 0], abs=1e-9)


def test_the_sizes_of_the_ladder(settings):
    ladder = settings(steps=3000, sizes=[64, 128, 224], upsize_at=[900, 1800])
    assert [size_at(ladder, step, 224) for step in (0, 899, 900, 1799, 1800, 2999)] \
        == [64, 64, 128, 128, 224, 224]
    assert [size_at(ladder, step, 100) for step in (0, 900, 1800)] == [64, 100, 100]
    assert [stage_start(ladder, step) for step in (0, 899, 900, 2999)] == [0, 0, 900, 1800]


def test_without_a_ladder_images_have_the_size_of_the_model(settings):
    assert size_at(settings(), 5, 96) == 96


def test_the_authors_ladder_changes_where_their_count_from_one_says():
    """Their loop runs `for i in 1 … 3000` and upsizes at the top of rounds 900 and 1800."""
    side, sides = 64, []
    for i in range(1, 3001):
        if i in (900, 1800):
            side = min(224, 2 * side)
        sides.append(side)
    ours = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(InversionSettings),
                                               preset("inversion", "authors"))).in_steps()
    assert [size_at(ours, step, 224) for step in range(3000)] == sides
