"""Measure one phase of one concept from the margins of its images and of known ones.

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
from torchmetrics.functional.classification import multiclass_stat_scores

from kt_exp.benchmarks.classification.margins import Margins
from kt_exp.benchmarks.classification.tradeoff import tradeoff
from kt_exp.results.gains import PhaseMargins
from kt_exp.results.outcome import TRADEOFF_METRICS, Confusion, Metric, Outcome, Phase


@dataclass(frozen=True)
class Accuracy:
    """Exact counts of one classification run.

    Attributes:
        correct: images assigned to their own class.
        images: images in all.
        mean_per_class: mean over the classes that have images, in [0, 1].
        classes: how many those are.
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

    A class without images has no accuracy and is left out of the mean per class, also when images
    of other classes were taken for it (torchmetrics' own macro average counts it as 0).
    """
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


def measure(known: Scored, targets: Scored, names: Sequence[str], own: int, phase: Phase,
            concept: str, reference: int | None = None) -> Outcome:
    """Return accuracies, confusions and the trade-off of one concept in one phase.

    Between equally similar candidates the first wins: a known class before a new concept.

    Args:
        known: images of the known classes.
        targets: images of the concept; their labels are not used.
        names: the candidates, known classes first.
        own: index of the concept among them.
        concept: its name in the result.
        reference: known images that the untrained model has right; None: as many as here.
    """
    taken_for, known_taken_for = targets.margins.taken_for(), known.margins.taken_for()
    on_targets = accuracy(taken_for, torch.full_like(taken_for, own), len(names))
    on_known = accuracy(known_taken_for, known.labels, len(names))
    outcome = Outcome(
        metrics=[
            _overall(phase, concept, "target", on_targets),
            _overall(phase, concept, "known", on_known),
            _per_class(phase, concept, "known", on_known),
        ],
        confusions=confusions(taken_for, names, phase, concept),
        skipped=[*targets.skipped, *known.skipped],
    )
    add_tradeoff(outcome, known, targets, phase, concept,
                 on_known.correct if reference is None else reference)
    return outcome


def add_tradeoff(outcome: Outcome, known: Scored, targets: Scored, phase: Phase, concept: str,
                 reference: int) -> None:
    """Add the metrics at equal forgetting, the curve and the margins to an outcome."""
    found = tradeoff(targets.margins, known.margins, known.labels, reference)
    outcome.metrics += [
        Metric(phase, concept, TRADEOFF_METRICS[name], name, got.value, got.count, got.total,
               got.reason)
        for name, got in found.metrics.items()
    ]
    outcome.curve = found.curve
    right = known.margins.best_other == known.labels
    outcome.margins = PhaseMargins(targets.margins.values.numpy(), known.margins.values.numpy(),
                                   right.numpy())


def unmeasured(phase: Phase, concept: str, reason: str) -> list[Metric]:
    """Return the metrics at equal forgetting without values, for the `reason` given."""
    return [Metric(phase, concept, split, name, None, None, 0, reason)
            for name, split in TRADEOFF_METRICS.items()]


def confusions(taken_for: Tensor, names: Sequence[str], phase: Phase,
               concept: str) -> list[Confusion]:
    """Return what a concept's images were taken for, the most frequent first."""
    counts = Counter(names[i] for i in taken_for.tolist())
    return [Confusion(phase, concept, name, number) for name, number in counts.most_common()]


def _overall(phase: Phase, concept: str, split: str, found: Accuracy) -> Metric:
    return Metric(
        phase, concept, split, "accuracy", found.overall, found.correct, found.images
    )


def _per_class(phase: Phase, concept: str, split: str, found: Accuracy) -> Metric:
    return Metric(
        phase, concept, split, "mean_per_class_accuracy", found.mean_per_class, None,
        found.classes,
    )
