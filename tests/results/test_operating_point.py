from __future__ import annotations

import math

import numpy as np
import pytest

from kt_exp.results.operating_point import calibrate, fewest_right, largest_gamma


def test_the_largest_gamma_leaves_exactly_as_many_as_needed():
    margins = np.array([-0.5, -4.0, -1.0, -2.0])
    assert [largest_gamma(margins, needed) for needed in (4, 3, 2, 1)] == [0.5, 1.0, 2.0, 4.0]
    assert largest_gamma(margins, 0) == math.inf
    assert largest_gamma(margins, 5) == -math.inf


@pytest.mark.parametrize(("loss", "needed"), [(0.0, 90), (0.01, 89), (0.019, 89), (0.29, 61)])
def test_a_loss_is_rounded_down_to_whole_images(loss, needed):
    assert fewest_right(90, 100, loss) == needed


@pytest.mark.parametrize("budget", [0.0, 0.01, 0.02, 0.05])
def test_a_larger_gamma_would_pass_the_budget(budget):
    generator = np.random.default_rng(0)
    margins, right = generator.normal(-2, 1, 500), generator.random(500) < 0.9
    reference = int((right & (margins <= 0)).sum())
    point = calibrate(margins, right, budget, reference)

    def still_right(gamma):
        return int((right & (margins <= -gamma)).sum())

    assert point.known_correct == still_right(point.gamma) >= reference - budget * 500
    assert still_right(np.nextafter(point.gamma, 9)) < reference - budget * 500


def test_images_that_tie_are_kept_or_lost_together():
    margins = np.array([-1.0, -1.0, -1.0, -3.0])
    point = calibrate(margins, np.ones(4, dtype=bool), budget=0.25, reference=4)
    assert (point.gamma, point.known_correct) == (1.0, 4)


def test_what_the_model_has_lost_already_is_given_back():
    margins = np.array([0.5, -1.0, -2.0, -3.0])  # the first is the concept's without γ
    point = calibrate(margins, np.ones(4, dtype=bool), budget=0.0, reference=4)
    assert (point.gamma, point.known_correct) == (-0.5, 4)


@pytest.mark.parametrize(("margins", "right", "reference", "reason"), [
    ([], [], 0, "no known images"),
    ([math.nan, 0.0], [True, True], 2, "1 of 2 margins are not finite"),
    ([-1.0, -2.0], [False, False], 0, "allows to lose them all"),
    ([-1.0, -2.0], [True, False], 2, "more than the budget is lost at every γ"),
])
def test_no_operating_point_has_a_reason(margins, right, reference, reason):
    point = calibrate(np.array(margins, dtype=float), np.array(right, dtype=bool), 0.01, reference)
    assert point.gamma is None
    assert reason in point.reason
