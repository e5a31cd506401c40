"""Zero-shot classification by the scores of image–caption pairs (ViLT)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from kt_exp.benchmarks.classification.margins import score_margins
from kt_exp.benchmarks.classification.metrics import Scored
from kt_exp.benchmarks.classification.phase_evaluator import PhaseEvaluator, Wanted
from kt_exp.benchmarks.pairs import KIND, VERSION, PairScores, score_pairs
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.concepts import Concept
from kt_exp.models.protocol import PairMatcher
from kt_exp.models.weights import FROZEN, Weights
from kt_exp.results.outcome import Outcome, Phase
from kt_exp.store import signature


@dataclass
class PairEvaluator(PhaseEvaluator):
    """Classifies an image as the candidate whose prompts have the highest mean score with it.

    The untrained model's scores of known images with known classes' prompts stay in the store. A
    phase then scores only the concepts' prompts.
    """

    model: PairMatcher

    def _measure(self, group: Sequence[Concept], missing: Sequence[Wanted], weights: Weights,
                 gamma: float) -> Iterator[tuple[Wanted, Outcome]]:
        new = {phase: [self.task.target_prompts(other, phase) for other in group]
               for phase in dict.fromkeys(phase for _, phase in missing)}
        old_prompts = _distinct(self.task.known_prompts)
        new_prompts = _distinct(prompts for classes in new.values() for prompts in classes)
        used: list[str] = []
        with weights.applied(self.model):
            known = self._known(self.task.known_images, old_prompts, new_prompts, weights, used,
                                "known images")
            for concept in dict.fromkeys(concept for concept, _ in missing):
                targets = self._match(self.task.target_images(concept),
                                      [*old_prompts, *new_prompts], weights, used, concept.name)
                for phase in (phase for other, phase in missing if other == concept):
                    scored = partial(_both_scored, known, targets,
                                     [*self.task.known_prompts, *new[phase]], len(group))
                    yield self._measured(scored, group, (concept, phase), gamma)
        for key in used:
            self.store.discard(KIND, key)

    def key(self, group: Sequence[Concept], concept: Concept, phase: Phase,
            weights: Weights) -> str:
        return signature([VERSION, super().key(group, concept, phase, weights)])

    def calibration_scored(self, group: Sequence[Concept], weights: Weights) -> Scored:
        new = [self.task.target_prompts(concept, Phase.calibrated) for concept in group]
        classes, used = [*self.task.known_prompts, *new], list[str]()
        with weights.applied(self.model):
            table = self._known(self.calibration_images, _distinct(self.task.known_prompts),
                                _distinct(new), weights, used, "calibration images")
        for key in used:
            self.store.discard(KIND, key)
        return table.scored(classes, range(len(classes) - len(group), len(classes)), len(group))

    def _known(self, images: ImageSet, old: list[str], new: list[str], weights: Weights,
               used: list[str], name: str) -> _Table:
        if weights is not FROZEN:
            return self._match(images, [*old, *new], weights, used, name)
        stored = self._match(images, old, weights, [], name)
        return stored.beside(self._match(images, new, weights, used, name))

    def _match(self, images: ImageSet, captions: list[str], weights: Weights, used: list[str],
               name: str) -> _Table:
        key = signature([VERSION, self.fingerprint, self.model.device.type, weights.key,
                         images.fingerprint(), self.task.loader.on_bad_image, captions])
        used.append(key)
        return _Table(captions, score_pairs(self.model, images, captions, self.task.loader,
                                            self.store, key, self.progress, f"Matching {name}"))


@dataclass(frozen=True)
class _Table:
    """Scores of images (rows) with captions (columns)."""

    captions: list[str]
    pairs: PairScores

    def beside(self, other: _Table) -> _Table:
        """Return a table with the columns of both, which have the same images."""
        scores = torch.cat([self.pairs.scores, other.pairs.scores], dim=1)
        return _Table([*self.captions, *other.captions], replace(self.pairs, scores=scores))

    def scored(self, classes: Sequence[Sequence[str]], own: Sequence[int],
               concepts: int) -> Scored:
        """Return the images with their margins for the candidates `own`.

        Args:
            classes: the prompts of each candidate, the concepts last.
            concepts: number of candidates that are concepts.
        """
        column = {caption: number for number, caption in enumerate(self.captions)}
        per_class = [self.pairs.scores[:, [column[prompt] for prompt in prompts]].mean(dim=1)
                     for prompts in classes]
        new = range(len(classes) - concepts, len(classes))
        margins = score_margins(torch.stack(per_class, dim=1), own, new)
        return Scored(margins, self.pairs.labels, self.pairs.skipped)


def _both_scored(known: _Table, targets: _Table, classes: Sequence[Sequence[str]], concepts: int,
                 own: Sequence[int]) -> tuple[Scored, Scored]:
    return known.scored(classes, own, concepts), targets.scored(classes, own, concepts)


def _distinct(classes: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(prompt for prompts in classes for prompt in prompts))
