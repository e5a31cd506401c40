from __future__ import annotations

import numpy as np
import pytest

from kt_exp.results.gains import Comparison, PhaseMargins, target_at, target_at_gain
from kt_exp.results.intervals import bootstrap_gain, wilson


@pytest.mark.parametrize(("count", "total", "low", "high"), [
    # Newcombe, Statistics in Medicine 1998, Table I, method 3 (score, no continuity correction)
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
    (29, 29, 0.8830, 1.0),
])
def test_wilson_intervals_of_the_literature(count, total, low, high):
    assert wilson(count, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("total", [1, 7, 900])
def test_wilson_bounds_are_rates_and_symmetric(total):
    for count in range(total + 1):
        low, high = wilson(count, total)
        assert 0 <= low <= count / total <= high <= 1
        assert wilson(total - count, total) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("count", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_no_interval_of_what_is_no_rate(count, total):
    with pytest.raises(ValueError, match="not a rate"):
        wilson(count, total)


def test_a_gain_that_never_varies_has_no_width():
    observed = np.full((3, 4), 0.25)
    gain = bootstrap_gain(observed, lambda generator: observed, draws=100)
    assert (gain.mean, gain.low, gain.high, gain.is_positive) == (0.25, 0.25, 0.25, True)


def test_the_interval_covers_seeds_and_concepts():
    # Standard error of a mean over S seeds and C concepts, each with an effect of its own.
    generator = np.random.default_rng(0)
    observed = generator.normal(0, 0.2, (40, 1)) + generator.normal(0, 0.1, (1, 30))
    gain = bootstrap_gain(observed, lambda _: observed)
    expected = 2 * 1.96 * np.hypot(observed.mean(axis=1).std() / np.sqrt(40),
                                   observed.mean(axis=0).std() / np.sqrt(30))
    assert gain.high - gain.low == pytest.approx(expected, rel=0.1)
    assert gain == bootstrap_gain(observed, lambda _: observed)


def test_gains_have_to_be_finite():
    with pytest.raises(ValueError, match="finite"):
        bootstrap_gain(np.array([[np.nan]]), lambda _: np.zeros((1, 1)))


def test_target_accuracy_at_a_number_of_known_images_right():
    margins = PhaseMargins(np.array([-0.5, -1, -2.5, -20]), -np.arange(1.0, 11),
                           np.ones(10, dtype=bool))
    assert target_at(margins, needed=10) == 0.25
    assert target_at(margins, needed=8) == 0.75
    assert target_at(margins, needed=11) == 0


def compared(generator: np.random.Generator, shift: float, gain: float, images: int = 100,
             known: int = 300) -> Comparison:
    """Two phases: after, all margins are raised by `shift`, the concept's by `gain` beyond that."""
    target, others = generator.normal(1.5, 1, images), generator.normal(0, 1, known)
    right = np.ones(known, dtype=bool)
    noise = generator.normal(0, 0.1, images)
    return Comparison(PhaseMargins(target, others, right),
                      PhaseMargins(target + shift + gain + noise, others + shift, right),
                      reference=right)


def test_a_gain_in_ranking_is_told_from_a_bias():
    generator = np.random.default_rng(1)
    bias = target_at_gain([[compared(generator, shift=3, gain=0) for _ in range(5)]] * 2,
                          draws=300)
    ranking = target_at_gain([[compared(generator, shift=0, gain=1) for _ in range(5)]] * 2,
                             draws=300)
    assert bias.low < 0 < bias.high
    assert bias.high - bias.low < 0.1
    assert ranking.is_positive
    assert ranking.mean > 0.2


def test_a_constant_alone_gains_exactly_nothing():
    known = np.arange(8.0) / 8
    before = PhaseMargins(np.array([0.5, 1.5]), known, known < 1)
    after = PhaseMargins(before.target + 4, known + 4, before.right)
    gain = target_at_gain([[Comparison(before, after, before.right)]], draws=50)
    assert (gain.mean, gain.low, gain.high) == (0, 0, 0)


def width(generator_seed: int, copies: int = 1, **images: int) -> float:
    """Return the width of the interval for one concept, or for several with the same margins."""
    one = compared(np.random.default_rng(generator_seed), shift=0, gain=0.5, **images)
    gain = target_at_gain([[one] * copies], draws=400)
    return gain.high - gain.low


def test_few_images_widen_the_interval_known_ones_too():
    many = width(2, images=3000, known=3000)
    assert width(2, images=30, known=3000) > 3 * many
    assert width(2, images=3000, known=30) > 3 * many


def test_few_target_images_give_the_interval_of_a_rate():
    # The known images' margins are equal, so that γ is 0 in every draw.
    known, right = np.zeros(10), np.ones(10, dtype=bool)
    before = PhaseMargins(np.full(100, -1.0), known, right)
    after = PhaseMargins(np.repeat([-1.0, 1.0], 50), known, right)
    gain = target_at_gain([[Comparison(before, after, right)]])
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.5, 0.402, 0.598), abs=0.015)


def test_more_concepts_do_not_make_up_for_few_known_images():
    assert width(3, copies=8, images=3000, known=30) > 0.8 * width(3, images=3000, known=30)


def test_margins_that_are_not_finite_are_refused():
    bad = compared(np.random.default_rng(0), 0, 0)
    bad.after.known[3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        target_at_gain([[bad]])
