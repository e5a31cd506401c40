"""Evaluate one phase for one concept, from embeddings that are computed once and reused.

The candidates are the known classes and the concepts taught. Target accuracy is the share of
target images assigned to their concept; known accuracy that of known images assigned to their own
class while the new concepts are candidates too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

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
    target_label = torch.full_like(targets.labels, len(known_classifier) + concept_index)
    taken_for = predict(targets.embeddings, candidates)
    on_targets = accuracy(taken_for, target_label, len(candidates))
    on_known = accuracy(predict(known.embeddings, candidates), known.labels, len(candidates))
    return Outcome(
        metrics=[
            _overall(phase, concept, "target", on_targets),
            _overall(phase, concept, "known", on_known),
            _per_class(phase, concept, "known", on_known),
        ],
        confusions=[
            Confusion(phase.value, concept, name, count)
            for name, count in Counter(names[i] for i in taken_for.tolist()).most_common()
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
