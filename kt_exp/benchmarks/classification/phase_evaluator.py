"""Base class of the evaluators of classification: each phase of each concept, computed once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from kt_exp.benchmarks.classification.metrics import Scored, accuracies, measure, uncalibrated
from kt_exp.benchmarks.classification.task import ZeroShotTask
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.concepts import Concept
from kt_exp.models.protocol import Model
from kt_exp.models.weights import FROZEN, Weights
from kt_exp.progress import Progress
from kt_exp.results.gains import PhaseMargins
from kt_exp.results.operating_point import Calibration
from kt_exp.results.outcome import Outcome, Phase
from kt_exp.results.predictions import PhasePredictions
from kt_exp.store import Entry, Store, signature

VERSION = 5
KIND = "evaluation"
# The baseline comes first: the losses of the other phases are relative to it.
UNTRAINED = (Phase.baseline, Phase.name_prompt, Phase.description_prompt,
             Phase.name_and_description, Phase.parts_prompt)

Wanted = tuple[Concept, Phase]


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

    def transferred(self, group: Sequence[Concept], weights: Weights,
                    calibration: Calibration | None = None) -> list[Outcome]:
        """Return the outcomes of fine-tuned weights; with a calibration, of its γ too."""
        # Before the weights are applied: the baseline is of the untrained model.
        if any((concept, *group) not in self.references for concept in group):
            self._outcomes(group, (Phase.baseline,), FROZEN)
        if calibration is None:
            return self._outcomes(group, (Phase.transferred,), weights)
        point = calibration.point
        if point.gamma is None:
            return [*self._outcomes(group, (Phase.transferred,), weights),
                    *(uncalibrated(concept.name, point.reason) for concept in group)]
        return self._outcomes(group, (Phase.transferred, Phase.calibrated), weights, point.gamma)

    def image_count(self, group: Sequence[Concept]) -> int:
        """Return how many known images and images of the concepts one model is measured on."""
        return len(self.task.known_images) + sum(len(self.task.target_images(concept))
                                                 for concept in group)

    def outcome_keys(self, group: Sequence[Concept], weights: Weights) -> list[tuple[str, str]]:
        """Return the store's keys of the outcomes of `weights`, but of the phase `calibrated`."""
        phases = UNTRAINED if weights is FROZEN else (Phase.transferred,)
        return [(KIND, self.key(group, concept, phase, weights))
                for concept in group for phase in phases]

    @abstractmethod
    def calibration_scored(self, group: Sequence[Concept], weights: Weights) -> Scored:
        """Return the calibration images with the margins of concepts that share a model and a γ.

        Raises:
            ValueError: there are no calibration images.
            UserError: an unreadable image under `on_bad_image: error`, or no readable one.
        """

    def panels(self, outcomes: Sequence[Outcome], folder: Path) -> dict[str, str]:
        """Return no panels: the report itself draws the results of classification."""
        return {}

    def _outcomes(self, group: Sequence[Concept], phases: Sequence[Phase], weights: Weights,
                  gamma: float = 0.0) -> list[Outcome]:
        keys = {(concept, phase): self.key(group, concept, phase, weights)
                for concept in group for phase in phases}
        keys |= {wanted: signature([key, gamma]) for wanted, key in keys.items()
                 if wanted[1] is Phase.calibrated}
        found: dict[Wanted, Outcome] = {}
        with self.store.lock(KIND, keys.values()):
            for wanted, key in keys.items():
                if entry := self.store.fetch(KIND, key):
                    found[wanted] = self._noted(group, wanted, _outcome(entry))
            self.reused += len(found)
            missing = [wanted for wanted in keys if wanted not in found]
            if missing:
                for wanted, outcome in self._measure(group, missing, weights, gamma):
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
    def _measure(self, group: Sequence[Concept], missing: Sequence[Wanted], weights: Weights,
                 gamma: float) -> Iterator[tuple[Wanted, Outcome]]:
        """Yield the outcomes of `missing`; each is stored before the next is computed.

        `gamma` is that of the phase `calibrated`.
        """

    def _measured(self, scored: Callable[[Sequence[int]], tuple[Scored, Scored]],
                  group: Sequence[Concept], wanted: Wanted, gamma: float) -> tuple[Wanted, Outcome]:
        """Return the outcome of `wanted`.

        Args:
            scored: returns known and target images with their margins for some of the candidates,
                which are the known classes and then the concepts.
        """
        concept, phase = wanted
        names = [*self.task.known_names, *(other.name for other in group)]
        own = len(self.task.known_names) + group.index(concept)
        if phase is Phase.calibrated:
            known, targets = scored(range(len(self.task.known_names), len(names)))
            return wanted, accuracies(known, targets, names, own, phase, concept.name, gamma)
        known, targets = scored([own])
        return wanted, measure(known, targets, names, own, phase, concept.name,
                               self._reference(group, concept, phase))

    @cached_property
    def _known_fingerprint(self) -> str:
        return self.task.known_images.fingerprint()

    def key(self, group: Sequence[Concept], concept: Concept, phase: Phase,
            weights: Weights) -> str:
        """Return a hash of everything that can change a concept's outcome but γ."""
        candidates = [self.task.target_prompts(other, phase) for other in group]
        return signature([VERSION, self.fingerprint, self.model.device.type, weights.key,
                          phase.value, self.task.known_names, self.task.known_prompts,
                          candidates, concept.name, self._known_fingerprint,
                          self.task.target_images(concept).fingerprint(),
                          self.task.loader.on_bad_image,
                          [self.task.target_prompts(other, Phase.baseline) for other in group]])


def _tensors(outcome: Outcome) -> dict[str, Tensor]:
    """Return the margins and predictions of an outcome as tensors for the store."""
    arrays = dict(vars(outcome.margins)) if outcome.margins else {}
    if outcome.predictions:
        arrays |= outcome.predictions.arrays()
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def _outcome(entry: Entry) -> Outcome:
    outcome = Outcome.from_json(entry.record)
    arrays = {name: tensor.numpy() for name, tensor in entry.tensors.items()}
    ranked = {name: arrays.pop(name) for name in list(arrays) if "." in name}
    if arrays:
        outcome.margins = PhaseMargins(**arrays)
    if ranked:
        outcome.predictions = PhasePredictions.of_arrays(ranked)
    return outcome
