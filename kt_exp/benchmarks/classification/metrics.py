"""Evaluate one phase for one concept, from embeddings that are computed once and reused.

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

from kt_exp.benchmarks.embedding import Embedded
from kt_exp.results.outcome import Confusion, Metric, Outcome, Phase

ROWS_AT_ONCE = 8192


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


def predict(embeddings: Tensor, classifier: Tensor) -> Tensor:
    """Return the index of the most similar class of each image, `(N,)`; of equals, the first.

    Args:
        embeddings: unit-norm image embeddings `(N, D)`.
        classifier: unit-norm class embeddings `(C, D)`.
    """
    rows = embeddings.split(ROWS_AT_ONCE)
    return torch.cat([(some @ classifier.T).argmax(dim=1) for some in rows])


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


def evaluate(
    known: Embedded,
    targets: Embedded,
    known_classifier: Tensor,
    target_classifiers: Tensor,
    names: Sequence[str],
    concept_index: int,
    phase: Phase,
    concept: str,
) -> Outcome:
    """Return accuracies and confusions of one concept in one phase.

    Between equally similar candidates the first wins: a known class before a new concept.

    Args:
        known: embedded images of the K known classes.
        targets: embedded images of the concept.
        known_classifier: class embeddings `(K, D)`.
        target_classifiers: embeddings of the M concepts taught `(M, D)`; M = 1 where each concept
            has a model of its own.
        names: the K + M candidates, known classes first.
        concept_index: row of the concept in `target_classifiers`.
        concept: its name in the result.
    """
    candidates = torch.cat([known_classifier, target_classifiers])
    return count(
        Predicted(predict(known.embeddings, candidates), known.labels, known.skipped),
        Predicted(predict(targets.embeddings, candidates), targets.labels, targets.skipped),
        names, len(known_classifier) + concept_index, phase, concept)


@dataclass(frozen=True)
class Predicted:
    """Which candidate each image was taken for `(N,)`, by index, and its label `(N,)`."""

    taken_for: Tensor
    labels: Tensor
    skipped: list[str]


def count(known: Predicted, targets: Predicted, names: Sequence[str], own: int, phase: Phase,
          concept: str) -> Outcome:
    """Return accuracies and confusions of one concept in one phase, from predictions.

    Args:
        known: images of the known classes.
        targets: images of the concept; their labels are not used.
        names: the candidates, known classes first.
        own: index of the concept among them.
        concept: its name in the result.
    """
    target_label = torch.full_like(targets.labels, own)
    on_targets = accuracy(targets.taken_for, target_label, len(names))
    on_known = accuracy(known.taken_for, known.labels, len(names))
    return Outcome(
        metrics=[
            _overall(phase, concept, "target", on_targets),
            _overall(phase, concept, "known", on_known),
            _per_class(phase, concept, "known", on_known),
        ],
        confusions=[
            Confusion(phase, concept, name, number)
            for name, number in Counter(names[i] for i in targets.taken_for.tolist()).most_common()
        ],
        skipped=[*targets.skipped, *known.skipped],
    )


def _overall(phase: Phase, concept: str, split: str, found: Accuracy) -> Metric:
    return Metric(
        phase, concept, split, "accuracy", found.overall, found.correct, found.images
    )


def _per_class(phase: Phase, concept: str, split: str, found: Accuracy) -> Metric:
    return Metric(
        phase, concept, split, "mean_per_class_accuracy", found.mean_per_class, None,
        found.classes,
    )
