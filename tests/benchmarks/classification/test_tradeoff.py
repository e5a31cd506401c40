from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from kt_exp.benchmarks.classification.margins import Margins, score_margins
from kt_exp.benchmarks.classification.tradeoff import METRICS, Tradeoff, plain_known_right, tradeoff
from kt_exp.results.curve import Curve

CLASSES = 10


def scores(targets: int = 200, known: int = 1000, shift: float = 0.0, spread: float = 1.0,
           seed: int = 0, step: float = 2.0**-12) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores of target and known images with 10 known classes and a concept, and labels.

    `shift` lies on every score of the concept, `spread` is what its own images have beyond that.
    Scores are multiples of `step`, so that a shift by a multiple is exact.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(known) % CLASSES
    of_known = torch.randn(known, CLASSES + 1, generator=generator)
    of_known[torch.arange(known), labels] += 3
    of_targets = torch.randn(targets, CLASSES + 1, generator=generator)
    of_targets[:, CLASSES] += spread
    rounded = [(some / step).round() * step for some in (of_targets, of_known)]
    for some in rounded:
        some[:, CLASSES] += shift
    return rounded[0], rounded[1], labels


def measured(of_targets: Tensor, of_known: Tensor, labels: Tensor,
             reference: int | None = None) -> Tradeoff:
    taught = [of_known.shape[1] - 1]
    target, known = (score_margins(some, taught, taught) for some in (of_targets, of_known))
    right = plain_known_right(known, labels).sum()
    return tradeoff(target, known, labels, int(right if reference is None else reference))


def values(found: Tradeoff) -> dict[str, float | None]:
    return {name: metric.value for name, metric in found.metrics.items()}


def plain_target(found: Tradeoff) -> int:
    return found.curve.target[found.curve.marks["plain"]]


def plain_known(found: Tradeoff) -> int:
    return found.curve.known[found.curve.marks["plain"]]


def test_a_bias_raises_plain_accuracy_and_moves_nothing_else():
    before = measured(*scores())
    after = measured(*scores(shift=1.5), reference=plain_known(before))
    assert plain_target(after) > plain_target(before) + 50
    assert plain_known(after) < plain_known(before)
    assert values(after) == values(before)


def test_a_better_ranking_shows_where_plain_accuracy_does_not():
    # The concept's images are told apart better, but all of its scores are too low to win.
    before = measured(*scores(shift=-9, spread=1))
    after = measured(*scores(shift=-9, spread=4), reference=plain_known(before))
    assert plain_target(after) == plain_target(before) == 0
    assert plain_known(after) == plain_known(before)
    assert values(after)["target_at_2"] > values(before)["target_at_2"] + 0.3
    assert values(after)["auroc"] > values(before)["auroc"] + 0.05


@pytest.mark.parametrize("step", [2.0**-12, 0.5])  # 0.5: many ties
def test_the_curve_and_its_metrics_are_those_of_a_loop_over_gamma(step):
    of_targets, of_known, labels = scores(40, 60, shift=-0.5, step=step)
    found = measured(of_targets, of_known, labels, reference=50)

    def accuracies(gamma):
        added = [some.double().index_add(1, torch.tensor([CLASSES]),
                                         torch.full((len(some), 1), gamma).double())
                 for some in (of_targets, of_known)]
        target, known = (some.argmax(dim=1) for some in added)
        return int((target == CLASSES).sum()), int((known == labels).sum())

    gammas = [n * step for n in range(-int(12 / step), int(12 / step))] if step == 0.5 \
        else [g + nudge for g in found.curve.gamma[:-1] for nudge in (0, 1e-6)]
    points = [accuracies(gamma) for gamma in [*gammas, 100.0, -100.0]]
    assert set(points) == set(zip(found.curve.target, found.curve.known, strict=True))
    for gamma, target, known in zip(found.curve.gamma, found.curve.target, found.curve.known,
                                    strict=True):
        assert accuracies(100.0 if gamma is None else gamma) == (target, known)
    assert (plain_target(found), plain_known(found)) == accuracies(0.0)
    for lost in (1, 2, 5):
        allowed = [target for target, known in points if 100 * (50 - known) <= lost * 60]
        assert values(found)[f"target_at_{lost}"] == max(allowed) / 40
    assert values(found)["best_harmonic_mean"] == pytest.approx(
        max(2 * (t / 40) * (k / 60) / (t / 40 + k / 60) for t, k in points if t + k))


@pytest.mark.parametrize("step", [2.0**-12, 0.5])
def test_areas_are_those_of_all_pairs(step):
    of_targets, of_known, labels = scores(30, 50, step=step)
    found = measured(of_targets, of_known, labels)
    target, known = (score_margins(some, [CLASSES], [CLASSES]) for some in (of_targets, of_known))
    wins = (target.values[:, None] > known.values) + (target.values[:, None] == known.values) / 2
    assert values(found)["auroc"] == pytest.approx(wins.mean().item(), abs=1e-6)
    right = known.best_other == labels
    assert values(found)["ausuc"] == pytest.approx((wins * right).mean().item())
    assert values(found)["known_only"] == right.sum().item() / 50


def test_large_logits_keep_their_order():
    # Their sigmoid is 1 for all of them.
    of_targets = torch.tensor([[0.0, 0, 60], [0, 0, 50]])
    of_known = torch.tensor([[0.0, 0, 40], [0, 0, 45]])
    assert values(measured(of_targets, of_known, torch.tensor([0, 0])))["auroc"] == 1


def test_an_operating_point_with_its_counts():
    # Margins of the ten known images: −1, …, −10; of the four target images: −0.5, −1, −2.5, −20.
    of_known = torch.tensor([[0.0, -50, -n] for n in range(1, 11)])
    of_targets = torch.tensor([[0.0, -50, margin] for margin in (-0.5, -1, -2.5, -20)])
    found = measured(of_targets, of_known, torch.zeros(10, dtype=torch.long))
    at_5 = found.metrics["target_at_5"]
    assert (at_5.value, at_5.count, at_5.total) == (0.25, 1, 4)  # −1 ties with a known image
    assert found.curve.gamma[found.curve.marks["target_at_5"]] == 1
    assert values(found)["target_at_1"] == 0.25


def test_another_concept_of_the_model_stays_a_competitor():
    # Candidates: two known classes and two concepts; the image is the second concept's throughout.
    of_known = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 1.5], [0, 1, 0, 0.5]])
    known = score_margins(of_known, [2], [2, 3])
    target = score_margins(torch.tensor([[0.0, 0, 1, 1.5]]), [2], [2, 3])
    found = tradeoff(target, known, torch.tensor([0, 1, 1]), reference=2)
    assert max(found.curve.known) == 2  # the second image is lost to the other concept
    assert found.metrics["known_only"].count == 3
    assert (plain_target(found), values(found)["target_at_1"]) == (0, 1)


def test_a_long_curve_is_thinned_and_keeps_its_operating_points():
    of_targets, of_known, labels = scores(900, 1800)
    found = measured(of_targets, of_known, labels)
    curve = found.curve
    assert 150 < len(curve.gamma) <= 200
    for name in ("target_at_1", "target_at_2", "target_at_5"):
        assert curve.target[curve.marks[name]] == found.metrics[name].count
    assert curve.known[curve.marks["plain"]] == int(
        (of_known.argmax(dim=1) == labels).sum())
    assert (curve.target[0], curve.known[-1], curve.target[-1]) == (0, 0, 900)
    steps = [abs(b - a) / 900 + abs(d - c) / 1800 for a, b, c, d in zip(
        curve.target, curve.target[1:], curve.known, curve.known[1:], strict=False)]
    assert max(steps) < 0.02
    assert Curve.from_json(json.loads(json.dumps(curve.to_json(), allow_nan=False))) == curve


def test_a_model_that_lost_too_much_scores_nothing_and_says_so():
    found = measured(*scores(), reference=1000)
    metric = found.metrics["target_at_1"]
    assert (metric.value, metric.count) == (0, 0)
    assert metric.reason == "more known accuracy is lost at every γ"


def test_where_all_can_be_lost_nothing_is_measured():
    found = measured(*scores(), reference=20)
    assert values(found)["target_at_1"] is not None
    assert values(found)["target_at_2"] is None
    assert "20 of 1000 known images right" in found.metrics["target_at_2"].reason


def of(*margin: float, classes: int = 2) -> Margins:
    none = torch.zeros(len(margin), dtype=torch.long)
    return Margins(torch.tensor(margin, dtype=torch.float64), none + classes, none, none, classes)


@pytest.mark.parametrize(("target", "known", "reason"), [
    (of(0.1), of(), "no images of known classes"),
    (of(), of(0.1), "no images of the concept"),
    (of(0.1, float("nan")), of(0.2), "1 of 3 margins are not finite"),
    (of(0.1), of(float("inf"), float("nan")), "2 of 3 margins are not finite"),
    (of(0.1, 0.1), of(0.1), "all 3 margins are equal"),
])
def test_what_cannot_be_measured_is_none_with_its_reason(target, known, reason):
    found = tradeoff(target, known, torch.zeros(len(known.values), dtype=torch.long), 1)
    assert values(found) == dict.fromkeys(METRICS)
    assert {metric.reason for metric in found.metrics.values()} == {reason}
    assert found.curve is None


def test_with_one_known_class_only_the_ranking_is_measured():
    found = tradeoff(of(0.1, 0.3, classes=1), of(0.2, 0.0, classes=1), torch.zeros(2).long(), 2)
    assert found.metrics["auroc"].value == 0.75
    assert {name for name, value in values(found).items() if value is None} == {*METRICS} - {
        "auroc"}
    assert "one known class" in found.metrics["target_at_2"].reason
