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

from kt_exp.benchmarks.classification import Accuracy, accuracy, predict
from kt_exp.benchmarks.outcome import Confusion, MetricRow, Outcome, Phase
from kt_exp.benchmarks.scoring import Embedded


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
            Confusion(phase.value, concept, name, number)
            for name, number in Counter(names[i] for i in targets.taken_for.tolist()).most_common()
        ],
        skipped=[*targets.skipped, *known.skipped],
    )


def _overall(phase: Phase, concept: str, split: str, found: Accuracy) -> MetricRow:
    return MetricRow(
        phase.value, concept, split, "accuracy", found.overall, found.correct, found.images
    )


def _per_class(phase: Phase, concept: str, split: str, found: Accuracy) -> MetricRow:
    return MetricRow(
        phase.value, concept, split, "mean_per_class_accuracy", found.mean_per_class, None,
        found.classes,
    )
