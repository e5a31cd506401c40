"""The constant γ of a fine-tuned model, from scores that are made up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from kt_exp.benchmarks.classification.calibration import operating_point
from kt_exp.benchmarks.classification.margins import score_margins
from kt_exp.benchmarks.classification.metrics import (
    NOTHING,
    Scored,
    accuracies,
    measure,
    uncalibrated,
)
from kt_exp.results.outcome import Phase

KNOWN, CONCEPTS = 5, [5, 6]
NAMES = ["dice", "wheel", "lamp", "fence", "star", "madras", "floral"]


def known_scores(images: int = 400, bias: float = 0.0, seed: int = 0,
                 biased: Sequence[int] = CONCEPTS) -> tuple[Tensor, Tensor]:
    """Scores of known images with five known classes and two concepts `(N, 7)`, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % KNOWN
    scores = torch.randn(images, KNOWN + 2, generator=generator)
    scores[torch.arange(images), labels] += 3
    scores[:, biased] += bias
    return scores, labels


def scored(scores: Tensor, labels: Tensor, own: list[int]) -> Scored:
    return Scored(score_margins(scores, own, CONCEPTS), labels, [])


def correct(scores: Tensor, labels: Tensor, gamma: float, own: list[int]) -> int:
    added = scores.double()
    added[:, own] += gamma
    return int((added.argmax(dim=1) == labels).sum())


@pytest.mark.parametrize("own", [[5], [5, 6]], ids=["own model", "shared model"])
@pytest.mark.parametrize("budget", [0.0, 0.01, 0.05])
def test_gamma_is_the_largest_that_the_budget_allows(own, budget):
    before, labels = known_scores(bias=-1.0, biased=own)
    after = known_scores(bias=0.5, biased=own)[0]
    point = operating_point(scored(before, labels, own), scored(after, labels, own), budget)
    reference = correct(before, labels, 0.0, own)
    assert (point.reference, point.known_total) == (reference, 400)
    assert correct(after, labels, point.gamma, own) == point.known_correct
    assert point.known_correct >= reference - 400 * budget
    assert correct(after, labels, point.gamma + 1e-6, own) < reference - int(400 * budget)


def test_a_bias_of_fine_tuning_is_taken_back():
    scores, labels = known_scores()
    biased = known_scores(bias=2.0)[0]
    plain, shifted = (operating_point(scored(scores, labels, [5, 6]), scored(some, labels, [5, 6]),
                                      0.01) for some in (scores, biased))
    assert shifted.gamma == pytest.approx(plain.gamma - 2.0, abs=1e-6)
    assert shifted.known_correct == plain.known_correct
    assert shifted.gamma < 0


def test_accuracies_with_gamma_are_those_of_scores_to_which_it_is_added():
    known, labels = known_scores(seed=2)
    targets = torch.randn(50, KNOWN + 2, generator=torch.Generator().manual_seed(3))
    for gamma in (-1.0, 0.0, 0.5):
        found = accuracies(scored(known, labels, CONCEPTS), scored(targets, labels[:50], CONCEPTS),
                           NAMES, 6, Phase.calibrated, "floral", gamma)
        rows = {(row.split, row.metric): row for row in found.metrics}
        assert rows["target", "accuracy"].count == correct(targets, torch.full((50,), 6), gamma,
                                                           CONCEPTS)
        assert rows["known", "accuracy"].count == correct(known, labels, gamma, CONCEPTS)
        assert sum(confusion.count for confusion in found.confusions) == 50


def test_plain_accuracies_are_those_without_a_constant():
    known, labels = known_scores()
    targets = torch.randn(50, KNOWN + 2, generator=torch.Generator().manual_seed(3))
    items = scored(known, labels, [5]), scored(targets, labels[:50], [5])
    plain = measure(*items, NAMES, 5, Phase.transferred, "madras")
    assert accuracies(*items, NAMES, 5, Phase.transferred, "madras").metrics == plain.metrics[:3]


def test_with_nothing_to_calibrate_on_there_is_no_gamma():
    point = operating_point(NOTHING, NOTHING, 0.01)
    assert (point.gamma, point.reason) == (None, "no known images to calibrate on")
    rows = uncalibrated("madras", point.reason).metrics
    assert [(row.split, row.value, row.reason) for row in rows] == [
        ("target", None, point.reason), ("known", None, point.reason)]
