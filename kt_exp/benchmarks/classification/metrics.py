"""Metrics of one phase of one concept, from the margins of its images and of known images.

The candidates are the known classes and the concepts taught. Target accuracy is the share of
target images assigned to their concept; known accuracy that of known images assigned to their own
class while the new concepts are candidates too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kt_exp.benchmarks.classification.margins import Margins, Ranking
from kt_exp.benchmarks.classification.tradeoff import plain_known_right, tradeoff
from kt_exp.results.gains import PhaseMargins
from kt_exp.results.outcome import TRADEOFF_METRICS, Confusion, Metric, Outcome, Phase
from kt_exp.results.predictions import PhasePredictions, Ranked


@dataclass(frozen=True)
class Accuracy:
    """Exact counts of one classification run.

    Attributes:
        correct: images assigned to their own class.
        images: images in all.
        mean_per_class: mean over the classes that have images, in [0, 1].
        classes: number of classes that have images.
    """

    correct: int
    images: int
    mean_per_class: float
    classes: int

    @property
    def overall(self) -> float:
        """The share of images assigned to their own class, in [0, 1]."""
        return self.correct / self.images


def accuracy(predicted: Tensor, labels: Tensor, classes: int) -> Accuracy:
    """Return the accuracy of class indices `predicted` against `labels`, both `(N,)`, N ≥ 1.

    A class without images has no accuracy. The mean per class leaves it out even when images of
    other classes were assigned to it; torchmetrics' macro average counts it as 0.
    """
    # Imported on use: it takes seconds, in which a run could have begun.
    from torchmetrics.functional.classification import multiclass_stat_scores

    scores = multiclass_stat_scores(predicted, labels, num_classes=classes, average="none")
    correct, images = scores[:, 0].double(), scores[:, 4].double()
    present = images > 0
    return Accuracy(
        correct=int(correct.sum()),
        images=int(images.sum()),
        mean_per_class=float((correct[present] / images[present]).mean()),
        classes=int(present.sum()),
    )


@dataclass(frozen=True)
class Scored:
    """Images with their margins for one concept, and their labels `(N,)` among the candidates."""

    margins: Margins
    labels: Tensor
    skipped: list[str]


_NONE = torch.empty(0, dtype=torch.long)
NOTHING = Scored(Margins(_NONE.double(), _NONE, _NONE, _NONE, 0), _NONE, [])


def measure(known: Scored, targets: Scored, names: Sequence[str], own: int, phase: Phase,
            concept: str, reference: int | None = None) -> Outcome:
    """Return accuracies, confusions and the trade-off of one concept in one phase.

    Ties go to the first candidate: a known class before a new concept.

    Args:
        known: images of the known classes.
        targets: images of the concept; their labels are not used.
        names: the candidates, known classes first.
        own: index of the concept among them.
        concept: its name in the result.
        reference: how many known images the untrained model classifies correctly; None: as many
            as here.
    """
    outcome = accuracies(known, targets, names, own, phase, concept)
    if reference is None:
        reference = int(plain_known_right(known.margins, known.labels).sum())
    add_tradeoff(outcome, known, targets, phase, concept, reference)
    if phase in (Phase.baseline, Phase.transferred):
        outcome.predictions = _predictions(known, targets, own)
    return outcome


def _predictions(known: Scored, targets: Scored, own: int) -> PhasePredictions | None:
    """Return what the images are taken for; None if the likeliest candidates were not kept."""
    def ranked(scored: Scored, labels: Tensor, ranking: Ranking) -> Ranked:
        return Ranked(*(tensor.cpu().numpy() for tensor in (
            labels, scored.margins.taken_for(), ranking.top, ranking.scores,
            ranking.probabilities)))

    rankings = targets.margins.ranking, known.margins.ranking
    if rankings[0] is None or rankings[1] is None:
        return None
    return PhasePredictions(ranked(targets, torch.full_like(targets.labels, own), rankings[0]),
                            ranked(known, known.labels, rankings[1]))


def accuracies(known: Scored, targets: Scored, names: Sequence[str], own: int, phase: Phase,
               concept: str, gamma: float = 0.0) -> Outcome:
    """Return accuracies and confusions with γ on the scores that the margins are of.

    Without known images there is none of them.

    The arguments are those of `measure`. With margins that several concepts share, γ is on the
    scores of all of them.
    """
    taken_for, known_taken_for = (some.margins.taken_for(gamma) for some in (targets, known))
    on_targets = accuracy(taken_for, torch.full_like(taken_for, own), len(names))
    metrics = [_overall(phase, concept, "target", on_targets)]
    if len(known_taken_for):
        on_known = accuracy(known_taken_for, known.labels, len(names))
        metrics += [_overall(phase, concept, "known", on_known),
                    _per_class(phase, concept, "known", on_known)]
    return Outcome(
        metrics=metrics,
        confusions=confusions(taken_for, names, phase, concept),
        skipped=[*targets.skipped, *known.skipped],
    )


def uncalibrated(concept: str, reason: str | None) -> Outcome:
    """Return the outcome of the phase `calibrated` without γ: accuracies of None, with `reason`."""
    return Outcome([Metric(Phase.calibrated, concept, split, "accuracy", None, None, 0, reason)
                    for split in ("target", "known")])


def add_tradeoff(outcome: Outcome, known: Scored, targets: Scored, phase: Phase, concept: str,
                 reference: int) -> None:
    """Add the trade-off metrics, the curve and the margins to an outcome."""
    measured = tradeoff(targets.margins, known.margins, known.labels, reference)
    outcome.metrics += [
        Metric(phase, concept, TRADEOFF_METRICS[name], name, metric.value, metric.count,
               metric.total, metric.reason)
        for name, metric in measured.metrics.items()
    ]
    outcome.curve = measured.curve
    right = known.margins.best_other == known.labels
    outcome.margins = PhaseMargins(targets.margins.values.numpy(), known.margins.values.numpy(),
                                   right.numpy())


def unmeasured(phase: Phase, concept: str, reason: str) -> list[Metric]:
    """Return the trade-off metrics without values, each with `reason`."""
    return [Metric(phase, concept, split, name, None, None, 0, reason)
            for name, split in TRADEOFF_METRICS.items()]


def confusions(taken_for: Tensor, names: Sequence[str], phase: Phase,
               concept: str) -> list[Confusion]:
    """Return the candidates that a concept's images were assigned to, most frequent first."""
    counts = Counter(names[i] for i in taken_for.tolist())
    return [Confusion(phase, concept, name, number) for name, number in counts.most_common()]


def _overall(phase: Phase, concept: str, split: str, found: Accuracy) -> Metric:
    return Metric(phase, concept, split, "accuracy", found.overall, found.correct, found.images)


def _per_class(phase: Phase, concept: str, split: str, found: Accuracy) -> Metric:
    return Metric(phase, concept, split, "mean_per_class_accuracy", found.mean_per_class, None,
                  found.classes)
