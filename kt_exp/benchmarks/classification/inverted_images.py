"""Inverted images as an untrained model sees them: what it takes them for, how far from real ones.

Two open questions of the paper (supplementary B.4): is there a domain gap between inverted and real
images, and do inverted images work with another model than the one they were inverted from?
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kt_exp.benchmarks.classification.evaluator import EmbeddingEvaluator
from kt_exp.benchmarks.classification.frechet import frechet_distance
from kt_exp.benchmarks.classification.margins import embedding_margins
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.concepts import Concept
from kt_exp.results.outcome import INVERTED, Metric, Outcome, Phase
from kt_exp.store import Entry

PHASES = (Phase.baseline, Phase.description_prompt)
GAP = ("gap", "floor", "pairs")  # what `domain_gap` returns, as the store keeps it


def judge_inverted(evaluator: EmbeddingEvaluator, group: Sequence[Concept], concept: Concept,
                   images: ImageSet) -> Outcome:
    """Return what the untrained model of `evaluator` makes of a concept's inverted images.

    The rows of the split `inverted`: the share of the images that is assigned to the concept by its
    name (`baseline`) and by its description (`description_prompt`), among the known classes and the
    other concepts of `group`; `frechet_distance` and `frechet_floor`, as `domain_gap` returns them.
    """
    real = evaluator.task.target_images(concept)
    inverted = evaluator.untrained_embeddings(images, f"Embedding inverted {concept.name}")
    rows = [_accuracy(evaluator, group, concept, phase, inverted) for phase in PHASES]

    def measure_gap() -> Entry:
        embeddings = evaluator.untrained_embeddings(real, f"Embedding {concept.name}")
        return Entry(dict(zip(GAP, domain_gap(inverted, embeddings), strict=True)), {})

    stored = evaluator.cached(["domain gap", images.fingerprint(), real.fingerprint(),
                               evaluator.task.loader.on_bad_image], measure_gap)
    gap, floor, pairs = (stored.record[name] for name in GAP)
    reason = f"{pairs} images a set, {inverted.shape[1]} dimensions" if pairs > 1 \
        else "needs two inverted and four real images"
    rows += [Metric(Phase.baseline, concept.name, INVERTED, name, value, None, max(pairs, 0),
                    reason)
             for name, value in (("frechet_distance", gap), ("frechet_floor", floor))]
    return Outcome(rows)


def domain_gap(inverted: Tensor, real: Tensor) -> tuple[float | None, float | None, int]:
    """Return the Fréchet distance of inverted from real images, its floor, and the set size n.

    The floor is the distance of n real images from n other real ones; the gap that of n inverted
    images from the same n real ones. All sets have n images, so that both have the bias of few
    images alike.

    Args:
        inverted, real: features of images `(N, D)` and `(M, D)`; n = min(N, M // 2).

    Returns:
        The two distances; None for both if n < 2.
    """
    size = min(len(inverted), len(real) // 2)
    if size < 2:
        return None, None, size
    first, second = real[0::2][:size], real[1::2][:size]
    return frechet_distance(first, inverted[:size]), frechet_distance(first, second), size


def _accuracy(evaluator: EmbeddingEvaluator, group: Sequence[Concept], concept: Concept,
              phase: Phase, embeddings: Tensor) -> Metric:
    task = evaluator.task
    concepts = evaluator.class_embeddings([task.target_prompts(other, phase) for other in group])
    candidates = torch.cat([evaluator.frozen_classifier, concepts])
    known = len(candidates) - len(group)
    own = known + list(group).index(concept)
    margins = embedding_margins(embeddings, candidates, [own], range(known, len(candidates)))
    right = int((margins.taken_for() == own).sum())
    return Metric(phase, concept.name, INVERTED, "accuracy", right / len(embeddings), right,
                  len(embeddings))
