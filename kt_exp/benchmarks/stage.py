"""The evaluation stage: every phase of every concept, each computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kt_exp.benchmarks.evaluate import evaluate
from kt_exp.benchmarks.outcome import Outcome, Phase
from kt_exp.benchmarks.prompts import known_prompts, target_prompts
from kt_exp.benchmarks.protocol import ClassificationBenchmark, ImageSet
from kt_exp.benchmarks.scoring import Embedded, embed_images, text_classifier
from kt_exp.concepts import Concept
from kt_exp.finetune.train import restored
from kt_exp.models.protocol import DualEncoder
from kt_exp.report.progress import Progress
from kt_exp.store import Store, signature

VERSION = 1
KIND, EMBEDDINGS = "evaluation", "embeddings"
UNTRAINED = (Phase.baseline, Phase.name_prompt, Phase.description_prompt)
FROZEN = "frozen"


@dataclass
class Evaluator:
    """Evaluates a model on a benchmark; what several phases need is computed once.

    `computed` and `reused` count the outcomes that were measured now, and those from the store.
    """

    model: DualEncoder
    fingerprint: str
    benchmark: ClassificationBenchmark
    store: Store
    progress: Progress
    computed: int = 0
    reused: int = 0
    _targets: dict[str, Embedded] = field(default_factory=dict)

    def untrained(self, group: Sequence[Concept]) -> list[Outcome]:
        """Return the phases that train nothing, for concepts that are candidates together."""
        weights = _Weights(self, FROZEN, dict, text_changed=False)
        return self._outcomes(group, UNTRAINED, weights)

    def transferred(self, group: Sequence[Concept], key: str,
                    changes: dict[str, Tensor]) -> list[Outcome]:
        """Return the outcomes of fine-tuned weights: `changes` to the model, signed by `key`."""
        text = self.model.towers()["text"]
        weights = _Weights(self, key, lambda: changes, any(name in text for name in changes))
        return self._outcomes(group, (Phase.transferred,), weights)

    def _outcomes(self, group: Sequence[Concept], phases: Iterable[Phase],
                  weights: _Weights) -> list[Outcome]:
        keys = {(concept, phase): self._key(group, concept, phase, weights.key)
                for concept in group for phase in phases}
        with self.store.lock(KIND, keys.values()):
            found = {}
            for wanted, key in keys.items():
                entry = self.store.fetch(KIND, key)
                found[wanted] = Outcome.from_json(entry.record) if entry else None
            missing = [wanted for wanted, outcome in found.items() if outcome is None]
            self.reused += len(keys) - len(missing)
            self.computed += len(missing)
            if missing:
                with weights.applied():
                    for concept, phase in missing:
                        outcome = weights.evaluate(group, concept, phase)
                        self.store.commit(KIND, keys[concept, phase], outcome.to_json())
                        found[concept, phase] = outcome
        return [outcome for outcome in found.values() if outcome is not None]

    def _key(self, group: Sequence[Concept], concept: Concept, phase: Phase, weights: str) -> str:
        candidates = [target_prompts(self.benchmark, other, phase) for other in group]
        return signature([VERSION, self.fingerprint, self.model.device.type, weights, phase.value,
                          self.benchmark.known_names(), self._known_prompts, candidates,
                          concept.name, self._known_fingerprint,
                          self.benchmark.target_images(concept).fingerprint(),
                          self.benchmark.on_bad_image])

    @cached_property
    def _known_fingerprint(self) -> str:
        return self.benchmark.known_images().fingerprint()

    @cached_property
    def _known_prompts(self) -> list[list[str]]:
        return known_prompts(self.benchmark)

    @cached_property
    def frozen_classifier(self) -> Tensor:
        """Embeddings of the known classes `(K, D)` by the frozen text encoder."""
        return self.classify(self._known_prompts)

    @cached_property
    def frozen_known(self) -> Embedded:
        """Embeddings of the known images by the frozen model, kept in the store."""
        key = signature([VERSION, self.fingerprint, self.model.device.type,
                         self._known_fingerprint, self.benchmark.on_bad_image])
        if (entry := self.store.fetch(EMBEDDINGS, key)) is None:
            known = self.embed_known()
            entry = self.store.commit(EMBEDDINGS, key, {"skipped": known.skipped},
                                      {"embeddings": known.embeddings, "labels": known.labels})
        return Embedded(entry.tensors["embeddings"], entry.tensors["labels"],
                        entry.record["skipped"])

    def frozen_target(self, concept: Concept) -> Embedded:
        """Embeddings of a concept's images by the frozen model."""
        if concept.name not in self._targets:
            self._targets[concept.name] = self.embed_target(concept)
        return self._targets[concept.name]

    def embed_known(self) -> Embedded:
        """Embeddings of the known images by the model as it is now."""
        return self._embed(self.benchmark.known_images(), "Embedding known images")

    def embed_target(self, concept: Concept) -> Embedded:
        """Embeddings of a concept's images by the model as it is now."""
        return self._embed(self.benchmark.target_images(concept), f"Embedding {concept.name}")

    def classify(self, prompts: list[list[str]]) -> Tensor:
        """Class embeddings by the text encoder as it is now."""
        return text_classifier(self.model, prompts, self.benchmark.batch_size, self.progress,
                               "Encoding class names")

    def _embed(self, images: ImageSet, description: str) -> Embedded:
        return embed_images(self.model, images, self.benchmark, self.progress, description)


class _Weights:
    """One state of the model's weights, and what has been computed with it."""

    def __init__(self, evaluator: Evaluator, key: str, changes: Callable[[], dict[str, Tensor]],
                 text_changed: bool) -> None:
        self._evaluator, self.key, self._changes = evaluator, key, changes
        self._text_changed = text_changed

    def applied(self) -> Any:
        if self.key == FROZEN:
            return nullcontext()
        return restored(self._evaluator.model, self._changes())

    def evaluate(self, group: Sequence[Concept], concept: Concept, phase: Phase) -> Outcome:
        evaluator = self._evaluator
        targets = torch.cat([
            evaluator.classify([target_prompts(evaluator.benchmark, other, phase)])
            for other in group
        ])
        names = evaluator.benchmark.known_names() + [other.name for other in group]
        images = evaluator.frozen_target(concept) if self.key == FROZEN \
            else evaluator.embed_target(concept)
        return evaluate(self._known, images, self._classifier, targets, names,
                        list(group).index(concept), phase, concept.name)

    @cached_property
    def _known(self) -> Embedded:
        return self._evaluator.frozen_known if self.key == FROZEN \
            else self._evaluator.embed_known()

    @cached_property
    def _classifier(self) -> Tensor:
        return self._evaluator.classify(self._evaluator._known_prompts) if self._text_changed \
            else self._evaluator.frozen_classifier
