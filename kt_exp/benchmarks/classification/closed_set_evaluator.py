"""Evaluator of zero-shot classification in a closed set of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from kt_exp.benchmarks.classification.evaluator import EmbeddingEvaluator
from kt_exp.benchmarks.classification.margins import score_margins
from kt_exp.benchmarks.classification.metrics import (
    NOTHING,
    Accuracy,
    Scored,
    accuracy,
    add_tradeoff,
    confusions,
    unmeasured,
)
from kt_exp.benchmarks.classification.phase_evaluator import Wanted
from kt_exp.benchmarks.classification.task import ZeroShotTask
from kt_exp.benchmarks.embedding import Embedded, encode_prompts
from kt_exp.concepts import Concept
from kt_exp.errors import UserError
from kt_exp.models.weights import Weights
from kt_exp.results.outcome import JOINT, Metric, Outcome, Phase
from kt_exp.store import Entry, signature

VERSION = 2


@dataclass(frozen=True)
class Candidates:
    """The candidates of classification: the classes of the set, then the concepts beside it.

    Attributes:
        names: of the C candidates.
        prompts: unit-norm embeddings of each candidate's prompts, `(P, D)`.
        ensemble: how a candidate's prompts are combined (see `class_scores`).
        concepts: names of the group's concepts.
    """

    names: list[str]
    prompts: list[Tensor]
    ensemble: str
    concepts: list[str]

    @property
    def taught(self) -> list[int]:
        """Indices of the group's concepts among the candidates."""
        return [self.names.index(name) for name in self.concepts]

    def taken(self, scores: Tensor, gamma: float) -> Tensor:
        """Return the index that each image is assigned to `(N,)`, with γ on all concepts' scores.

        Args:
            scores: `(N, C)`.
        """
        if not gamma:
            return scores.argmax(dim=1)
        return score_margins(scores, self.taught, self.taught).taken_for(gamma)

    def scores(self, embeddings: Tensor) -> Tensor:
        """Return the score of each image with each candidate, `(N, C)`."""
        return class_scores(embeddings, self.prompts, self.ensemble)


@dataclass(frozen=True)
class ClosedSetTask(ZeroShotTask):
    """A task whose concepts may be classes of the set.

    `class_of` returns the label of a concept's class, or None. `ensemble` says how a class's
    prompts are combined (see `class_scores`).
    """

    class_of: Callable[[Concept], int | None]
    ensemble: str


@dataclass
class ClassSetEvaluator(EmbeddingEvaluator):
    """Classifies among the classes of a set, which may include the taught concepts.

    An outcome has the accuracy on its concept (`target`) and on the classes that are not taught
    (`known`). If a concept of the group is a class of the set, the outcome of the group's first
    concept also has the top-1 accuracy on all images (`all`).
    """

    task: ClosedSetTask

    @cached_property
    def frozen_classifier(self) -> Tensor:
        """Embeddings of the classes `(K, D)` by the frozen text encoder."""
        per_class = self._embed_prompts(self.task.known_prompts, True)
        means = [prompts.mean(dim=0) for prompts in per_class]
        return F.normalize(torch.stack(means), dim=-1)

    def _measure(self, group: Sequence[Concept], missing: Sequence[Wanted], weights: Weights,
                 gamma: float) -> Iterator[tuple[Wanted, Outcome]]:
        with weights.applied(self.model):
            images = self._known(weights)
            targets = {concept: self._targets(concept, images, weights)
                       for concept in dict.fromkeys(concept for concept, _ in missing)}
            for phase in dict.fromkeys(phase for _, phase in missing):
                candidates = self._candidates(group, phase, weights)
                scores = candidates.scores(images.embeddings)
                added = gamma if phase is Phase.calibrated else 0.0
                for concept in (concept for concept, other in missing if other is phase):
                    outcome = self._on_target(targets[concept], candidates, phase, concept, added)
                    outcome.metrics += self._on_set(candidates.taken(scores, added), images.labels,
                                                    candidates, group, concept, phase)
                    outcome.skipped += images.skipped
                    if phase is not Phase.calibrated:
                        self._add_tradeoff(outcome, targets[concept], images, scores, candidates,
                                           group, concept, phase)
                    yield (concept, phase), outcome

    def calibration_scored(self, group: Sequence[Concept], weights: Weights) -> Scored:
        images = self.calibration_embeddings(weights)
        with weights.applied(self.model):
            candidates = self._candidates(group, Phase.calibrated, weights)
        if len(candidates.taught) == len(candidates.names):
            return NOTHING
        known = self._are_known(images.labels, group)
        scores = candidates.scores(images.embeddings[known])
        return Scored(score_margins(scores, candidates.taught, candidates.taught),
                      images.labels[known], images.skipped)

    def _targets(self, concept: Concept, images: Embedded, weights: Weights) -> Embedded:
        """Return a concept's embedded images, from its class or from its folder beside the set."""
        label = self.task.class_of(concept)
        if label is None:
            return self._embed(self.task.target_images(concept),
                               f"Embedding {concept.name}", weights)
        own = images.labels == label
        if not own.any():
            raise UserError(concept.name, "not one readable image", "check the benchmark's folders")
        return Embedded(images.embeddings[own], images.labels[own], [])

    def _candidates(self, group: Sequence[Concept], phase: Phase, weights: Weights) -> Candidates:
        frozen = not weights.changes.keys() & self._text_parameters
        names = list(self.task.known_names)
        prompts = list(self._embed_prompts(self.task.known_prompts, frozen))
        own = self._embed_prompts(self._group_prompts(group, phase), frozen)
        for concept, embedded in zip(group, own, strict=True):
            label = self.task.class_of(concept)
            if label is None:
                names.append(concept.name)
                prompts.append(embedded)
            else:
                names[label], prompts[label] = concept.name, embedded
        return Candidates(names, prompts, self.task.ensemble,
                          [concept.name for concept in group])

    def _on_set(self, taken: Tensor, labels: Tensor, candidates: Candidates,
                group: Sequence[Concept], concept: Concept, phase: Phase) -> list[Metric]:
        """Return the accuracy on untaught classes, and once per group that on all images."""
        classes = len(candidates.names)
        known = self._are_known(labels, group)
        rows = []
        if known.any():
            found = accuracy(taken[known], labels[known], classes)
            rows += _rows(phase, concept.name, "known", found)
        if concept == group[0] and any(self.task.class_of(other) is not None for other in group):
            name = JOINT if len(group) > 1 else concept.name
            rows += _rows(phase, name, "all", accuracy(taken, labels, classes))
        return rows

    def _on_target(self, targets: Embedded, candidates: Candidates, phase: Phase, concept: Concept,
                   gamma: float) -> Outcome:
        """Return the accuracy on a concept's images with γ, and their confusions."""
        taken = candidates.taken(candidates.scores(targets.embeddings), gamma)
        own = candidates.names.index(concept.name)
        found = accuracy(taken, torch.full_like(taken, own), len(candidates.names))
        return Outcome(
            metrics=_rows(phase, concept.name, "target", found)[:1],
            confusions=confusions(taken, candidates.names, phase, concept.name),
            skipped=list(targets.skipped),
        )

    def _add_tradeoff(self, outcome: Outcome, targets: Embedded, images: Embedded, scores: Tensor,
                      candidates: Candidates, group: Sequence[Concept], concept: Concept,
                      phase: Phase) -> None:
        """Add the trade-off metrics; known images are those of untaught classes."""
        own, concepts = [candidates.names.index(concept.name)], candidates.taught
        if len(concepts) == len(candidates.names):
            outcome.metrics += unmeasured(phase, concept.name, "every class is taught")
            return
        known = self._are_known(images.labels, group)
        reference = self._reference(group, concept, phase)
        if reference is None:
            reference = int((scores.argmax(dim=1) == images.labels)[known].sum())
        target_scores = candidates.scores(targets.embeddings)
        add_tradeoff(
            outcome, Scored(score_margins(scores[known], own, concepts), images.labels[known], []),
            Scored(score_margins(target_scores, own, concepts), targets.labels, []), phase,
            concept.name, reference)

    def _are_known(self, labels: Tensor, group: Sequence[Concept]) -> Tensor:
        """Return a mask of the images of untaught classes, `(N,)`."""
        taught = [label for other in group
                  if (label := self.task.class_of(other)) is not None]
        return ~torch.isin(labels, torch.tensor(taught, dtype=labels.dtype))

    def _embed_prompts(self, prompts: Sequence[Sequence[str]], frozen: bool) -> list[Tensor]:
        """Return each class's prompt embeddings `(P, D)`, cached for the frozen encoder."""
        def compute() -> Tensor:
            return torch.cat(encode_prompts(self.model, prompts, self.task.loader.batch_size,
                                            self.progress, "Encoding class names"))

        embedded = self.cached(["prompts", prompts], lambda: Entry({}, {"prompts": compute()})) \
            .tensors["prompts"] if frozen else compute()
        return list(embedded.split([len(of_class) for of_class in prompts]))

    def key(self, group: Sequence[Concept], concept: Concept, phase: Phase,
            weights: Weights) -> str:
        return signature(["class set", VERSION, self.fingerprint, self.model.device.type,
                          weights.key, phase.value, self.task.known_names,
                          self.task.known_prompts, [other.name for other in group],
                          self._group_prompts(group, phase), self.task.ensemble,
                          concept.name, self._known_fingerprint,
                          self.task.target_images(concept).fingerprint(),
                          self.task.loader.on_bad_image,
                          self._group_prompts(group, Phase.baseline)])

    def _group_prompts(self, group: Sequence[Concept], phase: Phase) -> list[list[str]]:
        return [self.task.target_prompts(concept, phase) for concept in group]


def class_scores(embeddings: Tensor, prompts: Sequence[Tensor], ensemble: str) -> Tensor:
    """Return the score of each image with each class, `(N, C)`.

    Args:
        embeddings: image embeddings, unit norm `(N, D)`.
        prompts: prompt embeddings of each class, unit norm `(P, D)`.
        ensemble: `embedding`: cosine with the normalised mean of the prompts (CLIP; Radford et
            al. 2021, 3.1.4) | `mean`, `max`: over the cosines with the prompts (MedCLIP).
    """
    if ensemble == "max":
        return torch.stack([(embeddings @ own.T).amax(dim=1) for own in prompts], dim=1)
    means = torch.stack([own.mean(dim=0) for own in prompts])
    return embeddings @ (F.normalize(means, dim=-1) if ensemble == "embedding" else means).T


def _rows(phase: Phase, concept: str, split: str, found: Accuracy) -> list[Metric]:
    return [
        Metric(phase, concept, split, "accuracy", found.overall, found.correct, found.images),
        Metric(phase, concept, split, "mean_per_class_accuracy", found.mean_per_class, None,
               found.classes),
    ]
