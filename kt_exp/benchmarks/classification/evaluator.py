"""Evaluator of classification by embeddings, which are computed once where phases share them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from kt_exp.benchmarks.classification.margins import embedding_margins
from kt_exp.benchmarks.classification.metrics import Scored
from kt_exp.benchmarks.classification.phase_evaluator import PhaseEvaluator, Wanted
from kt_exp.benchmarks.embedding import Embedded, embed_images, project, text_classifier
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.concepts import Concept
from kt_exp.models.protocol import DualEncoder, ProjectedEncoder
from kt_exp.models.weights import FROZEN, Weights
from kt_exp.results.outcome import Outcome, Phase
from kt_exp.store import Entry, signature

VERSION = 2
KIND = "embeddings"


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
        return self.cached(["classifier", prompts], lambda: Entry(
            {}, {"classes": self._classify(prompts)})).tensors["classes"]

    def _measure(self, group: Sequence[Concept], missing: Sequence[Wanted], weights: Weights,
                 gamma: float) -> Iterator[tuple[Wanted, Outcome]]:
        with weights.applied(self.model):
            known, classifier = self._known(weights), self._classifier(weights)
            for concept in dict.fromkeys(concept for concept, _ in missing):
                images = self._embed(self.task.target_images(concept),
                                     f"Embedding {concept.name}", weights)
                for phase in (phase for other, phase in missing if other == concept):
                    candidates = torch.cat([classifier, self._concepts(group, phase)])
                    scored = partial(_both_scored, known, images, candidates, len(group),
                                     self._scale)
                    yield self._measured(scored, group, (concept, phase), gamma)

    def calibration_scored(self, group: Sequence[Concept], weights: Weights) -> Scored:
        images = self.calibration_embeddings(weights)
        with weights.applied(self.model):
            candidates = torch.cat([self._classifier(weights),
                                    self._concepts(group, Phase.calibrated)])
        shared = range(len(candidates) - len(group), len(candidates))
        return _scored(images, candidates, shared, len(group), self._scale)

    @property
    def _scale(self) -> float:
        """The model's logit scale: probabilities are a softmax over scale × cosine, as CLIP's."""
        return float(self.model.logit_scale)

    def _concepts(self, group: Sequence[Concept], phase: Phase) -> Tensor:
        """Return the embeddings of the group's concepts `(G, D)` by the current weights."""
        return self._classify([self.task.target_prompts(other, phase) for other in group])

    def untrained_embeddings(self, images: ImageSet, description: str) -> Tensor:
        """Return the unit-norm embeddings `(N, D)` of images by the untrained model, cached."""
        return self._embed(images, description, FROZEN).embeddings

    def calibration_embeddings(self, weights: Weights) -> Embedded:
        """Return the embeddings of the calibration images by the model with `weights`.

        Weights that leave the image tower or its trunk as it was reuse its cached output.

        Raises:
            ValueError: there are no calibration images.
            UserError: an unreadable image under `on_bad_image: error`, or no readable one.
        """
        with weights.applied(self.model):
            return self._embed(self.calibration_images, "Embedding calibration images", weights)

    def cached(self, inputs: list[Any], compute: Callable[[], Entry]) -> Entry:
        """Return what the untrained model makes of `inputs`, from the store or computed now."""
        key = signature([VERSION, self.fingerprint, self.model.device.type, *inputs])
        if key not in self.held:
            self.held[key] = self.store.get_or_compute(KIND, key, compute)
        return self.held[key]

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
        entry = self.cached([part, fingerprint, self.task.loader.on_bad_image], compute)
        return Embedded(entry.tensors["embeddings"], entry.tensors["labels"],
                        entry.record["skipped"])

    @cached_property
    def _text_parameters(self) -> set[str]:
        return set(self.model.towers()["text"])

    @cached_property
    def _projection(self) -> set[str]:
        return set(self.model.towers()["visual_projection"])

    def _classify(self, prompts: list[list[str]]) -> Tensor:
        return text_classifier(self.model, prompts, self.task.loader.batch_size, self.progress,
                               "Encoding class names")


def _scored(images: Embedded, candidates: Tensor, own: Sequence[int], concepts: int,
            scale: float) -> Scored:
    """Return images with their margins; the last `concepts` candidates are the concepts."""
    new = range(len(candidates) - concepts, len(candidates))
    margins = embedding_margins(images.embeddings, candidates, own, new, scale)
    return Scored(margins, images.labels, images.skipped)


def _both_scored(known: Embedded, targets: Embedded, candidates: Tensor, concepts: int,
                 scale: float, own: Sequence[int]) -> tuple[Scored, Scored]:
    return (_scored(known, candidates, own, concepts, scale),
            _scored(targets, candidates, own, concepts, scale))
