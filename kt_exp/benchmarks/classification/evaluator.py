"""Evaluators of classification: each phase of each concept is computed once and stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kt_exp.benchmarks.classification.margins import embedding_margins
from kt_exp.benchmarks.classification.metrics import Scored, measure
from kt_exp.benchmarks.embedding import (
    Embedded,
    LoaderSettings,
    embed_images,
    project,
    text_classifier,
)
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.concepts import Concept
from kt_exp.models.protocol import DualEncoder, Model, ProjectedEncoder
from kt_exp.models.weights import FROZEN, Weights
from kt_exp.progress import Progress
from kt_exp.results.gains import PhaseMargins
from kt_exp.results.outcome import Outcome, Phase
from kt_exp.store import Entry, Store, signature

VERSION, EMBEDDING_VERSION = 3, 2
KIND, EMBEDDINGS = "evaluation", "embeddings"
# The baseline comes first: the losses of the other phases are relative to it.
UNTRAINED = (Phase.baseline, Phase.name_prompt, Phase.description_prompt,
             Phase.name_and_description, Phase.parts_prompt)

Wanted = tuple[Concept, Phase]


@dataclass(frozen=True)
class ZeroShotTask:
    """Images, classes and prompts of a classification task.

    Attributes:
        templates: prompt templates with `{}` for the class name.
        known_names: of the K known classes.
        known_prompts: of each known class, at least one.
        known_images: labelled by index into `known_names`.
        target_images: returns the real images of a concept.
        target_prompts: returns the prompts of a concept in a phase.
        loader: settings for loading images.
        calibration_images: of known classes, labelled as `known_images`, not reported on; or None.
    """

    templates: list[str]
    known_names: list[str]
    known_prompts: list[list[str]]
    known_images: ImageSet
    target_images: Callable[[Concept], ImageSet]
    target_prompts: Callable[[Concept, Phase], list[str]]
    loader: LoaderSettings
    calibration_images: ImageSet | None


@dataclass
class PhaseEvaluator(ABC):
    """Evaluates each phase of each concept once; subclasses define how.

    `reused` counts the outcomes found in the store. `references` caches, for a concept in its
    group, how many known images the untrained model classifies correctly. `inverted` replaces the
    calibration images of a task that has none.
    """

    model: Model
    fingerprint: str
    task: ZeroShotTask
    store: Store
    progress: Progress
    reused: int = 0
    references: dict[tuple[Concept, ...], int] = field(default_factory=dict, repr=False)
    inverted: ImageSet | None = None

    @property
    def calibration_images(self) -> ImageSet:
        """The labelled images of known classes to calibrate on, which are not reported on.

        Raises:
            ValueError: the task has none, and `inverted` has not been set.
        """
        images = self.task.calibration_images
        images = self.inverted if images is None else images
        if images is None:
            raise ValueError("no calibration images")
        return images

    def untrained(self, group: Sequence[Concept]) -> list[Outcome]:
        """Return the outcomes of the untrained model's phases, for concepts that share a model."""
        return self._outcomes(group, UNTRAINED, FROZEN)

    def transferred(self, group: Sequence[Concept], weights: Weights) -> list[Outcome]:
        """Return the outcomes of fine-tuned weights."""
        # Before the weights are applied: the baseline is of the untrained model.
        if any((concept, *group) not in self.references for concept in group):
            self._outcomes(group, (Phase.baseline,), FROZEN)
        return self._outcomes(group, (Phase.transferred,), weights)

    def panels(self, outcomes: Sequence[Outcome], folder: Path) -> dict[str, str]:
        """Return no panels: the report itself draws the results of classification."""
        return {}

    def _outcomes(self, group: Sequence[Concept], phases: Sequence[Phase],
                  weights: Weights) -> list[Outcome]:
        keys = {(concept, phase): self._key(group, concept, phase, weights)
                for concept in group for phase in phases}
        found: dict[Wanted, Outcome] = {}
        with self.store.lock(KIND, keys.values()):
            for wanted, key in keys.items():
                if entry := self.store.fetch(KIND, key):
                    found[wanted] = self._noted(group, wanted, _outcome(entry))
            self.reused += len(found)
            missing = [wanted for wanted in keys if wanted not in found]
            if missing:
                for wanted, outcome in self._measure(group, missing, weights):
                    self.store.commit(KIND, keys[wanted], outcome.to_json(), _tensors(outcome))
                    found[wanted] = self._noted(group, wanted, outcome)
        return [found[wanted] for wanted in keys]

    def _noted(self, group: Sequence[Concept], wanted: Wanted, outcome: Outcome) -> Outcome:
        """Return the outcome; of the baseline, remember the reference."""
        concept, phase = wanted
        if phase is Phase.baseline:
            self.references[(concept, *group)] = next(
                (row.count or 0 for row in outcome.metrics
                 if (row.split, row.metric) == ("known", "accuracy")), 0)
        return outcome

    def _reference(self, group: Sequence[Concept], concept: Concept, phase: Phase) -> int | None:
        """Return how many known images the baseline classifies correctly; None for itself."""
        return None if phase is Phase.baseline else self.references[(concept, *group)]

    @abstractmethod
    def _measure(self, group: Sequence[Concept], missing: Sequence[Wanted],
                 weights: Weights) -> Iterator[tuple[Wanted, Outcome]]:
        """Yield the outcomes of `missing`; each is stored before the next is computed."""

    @cached_property
    def _known_fingerprint(self) -> str:
        return self.task.known_images.fingerprint()

    def _key(self, group: Sequence[Concept], concept: Concept, phase: Phase,
             weights: Weights) -> str:
        candidates = [self.task.target_prompts(other, phase) for other in group]
        return signature([VERSION, self.fingerprint, self.model.device.type, weights.key,
                          phase.value, self.task.known_names, self.task.known_prompts,
                          candidates, concept.name, self._known_fingerprint,
                          self.task.target_images(concept).fingerprint(),
                          self.task.loader.on_bad_image,
                          [self.task.target_prompts(other, Phase.baseline) for other in group]])


@dataclass
class EmbeddingEvaluator(PhaseEvaluator):
    """Classifies by embeddings; `held` caches what several phases share."""

    model: DualEncoder
    held: dict[str, Entry] = field(default_factory=dict, repr=False)

    @cached_property
    def frozen_classifier(self) -> Tensor:
        """Embeddings of the known classes `(K, D)` by the frozen text encoder, cached."""
        return self.class_embeddings(self.task.known_prompts)

    def class_embeddings(self, prompts: list[list[str]]) -> Tensor:
        """Return the embedding of each class `(C, D)` by the frozen text encoder, cached.

        Args:
            prompts: of each of the C classes, at least one.
        """
        return self._cached(["classifier", prompts], lambda: Entry(
            {}, {"classes": self._classify(prompts)})).tensors["classes"]

    def _measure(self, group: Sequence[Concept], missing: Sequence[Wanted],
                 weights: Weights) -> Iterator[tuple[Wanted, Outcome]]:
        names = [*self.task.known_names, *(concept.name for concept in group)]
        with weights.applied(self.model):
            known, classifier = self._known(weights), self._classifier(weights)
            for concept in dict.fromkeys(concept for concept, _ in missing):
                images = self._embed(self.task.target_images(concept),
                                     f"Embedding {concept.name}", weights)
                own = len(classifier) + group.index(concept)
                for phase in (phase for other, phase in missing if other == concept):
                    concepts = self._classify(
                        [self.task.target_prompts(other, phase) for other in group])
                    candidates = torch.cat([classifier, concepts])
                    yield (concept, phase), measure(
                        _scored(known, candidates, own, len(group)),
                        _scored(images, candidates, own, len(group)), names, own, phase,
                        concept.name, self._reference(group, concept, phase))

    def calibration_embeddings(self, weights: Weights) -> Embedded:
        """Return the embeddings of the calibration images by the model with `weights`.

        Weights that leave the image tower or its trunk as it was reuse its cached output.

        Raises:
            ValueError: there are no calibration images.
            UserError: an unreadable image under `on_bad_image: error`, or no readable one.
        """
        with weights.applied(self.model):
            return self._embed(self.calibration_images, "Embedding calibration images", weights)

    def _known(self, weights: Weights) -> Embedded:
        return self._embed(self.task.known_images, "Embedding known images", weights)

    def _embed(self, images: ImageSet, description: str, weights: Weights) -> Embedded:
        """Return the embeddings of images, reusing what the changed weights leave as it was."""
        changed = weights.changes.keys() - self._text_parameters
        if isinstance(self.model, ProjectedEncoder) and changed <= self._projection:
            features = self._encoded(images, description, "trunk", self.model.encode_trunk)
            return project(self.model, features, self.task.loader.batch_size)
        if not changed:
            return self._encoded(images, description, "image", self.model.encode_image)
        return embed_images(self.model, images, self.task.loader, self.progress, description,
                            store=self.store)

    def _classifier(self, weights: Weights) -> Tensor:
        if weights.changes.keys() & self._text_parameters:
            return self._classify(self.task.known_prompts)
        return self.frozen_classifier

    def _encoded(self, images: ImageSet, description: str, part: str,
                 encode: Callable[[Tensor], Tensor]) -> Embedded:
        """Return the output of the unchanged `part` of the model for images, cached."""
        def compute() -> Entry:
            embedded = embed_images(self.model, images, self.task.loader, self.progress,
                                    description, encode, self.store)
            return Entry({"skipped": embedded.skipped},
                         {"embeddings": embedded.embeddings, "labels": embedded.labels})

        fingerprint = self._known_fingerprint if images is self.task.known_images \
            else images.fingerprint()
        entry = self._cached([part, fingerprint, self.task.loader.on_bad_image], compute)
        return Embedded(entry.tensors["embeddings"], entry.tensors["labels"],
                        entry.record["skipped"])

    @cached_property
    def _text_parameters(self) -> set[str]:
        return set(self.model.towers()["text"])

    @cached_property
    def _projection(self) -> set[str]:
        return set(self.model.towers()["visual_projection"])

    def _cached(self, inputs: list[Any], compute: Callable[[], Entry]) -> Entry:
        """Return the frozen model's output for `inputs`, from the store or computed now."""
        key = signature([EMBEDDING_VERSION, self.fingerprint, self.model.device.type, *inputs])
        if key not in self.held:
            self.held[key] = self.store.get_or_compute(EMBEDDINGS, key, compute)
        return self.held[key]

    def _classify(self, prompts: list[list[str]]) -> Tensor:
        return text_classifier(self.model, prompts, self.task.loader.batch_size, self.progress,
                               "Encoding class names")


def _scored(images: Embedded, candidates: Tensor, own: int, concepts: int) -> Scored:
    """Return images with their margins; the last `concepts` candidates are the concepts."""
    new = range(len(candidates) - concepts, len(candidates))
    margins = embedding_margins(images.embeddings, candidates, [own], new)
    return Scored(margins, images.labels, images.skipped)


def _tensors(outcome: Outcome) -> dict[str, Tensor]:
    """Return the margins of an outcome as tensors for the store."""
    if outcome.margins is None:
        return {}
    return {name: torch.from_numpy(values) for name, values in vars(outcome.margins).items()}


def _outcome(entry: Entry) -> Outcome:
    outcome = Outcome.from_json(entry.record)
    if entry.tensors:
        outcome.margins = PhaseMargins(**{n: t.numpy() for n, t in entry.tensors.items()})
    return outcome
