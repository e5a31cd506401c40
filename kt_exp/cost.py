"""What a run will compute and write, and how much of it the store already has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from kt_exp.benchmarks.protocol import Counted
from kt_exp.finetune.features import TrainingFeatures
from kt_exp.finetune.images import TrainingImages
from kt_exp.finetune.stage import KIND as FINETUNE
from kt_exp.finetune.strategies import trained_parameters
from kt_exp.inversion.schedule import size_at
from kt_exp.models.split import PROJECTION
from kt_exp.models.weights import FROZEN, Weights, interpolated_key
from kt_exp.pipeline import Experiment, Group

INVERSION, EVALUATION = "inversion", "evaluation"
FP32, CHANNELS = 4, 3


@dataclass(frozen=True)
class Item:
    """One result of a stage.

    Attributes:
        stage: `inversion` (the images of a caption), `finetune` (a model) or `evaluation` (of a
            model; the untrained one is one).
        key: equal for equal results, also of other runs.
        images: to be inverted, trained on or evaluated.
        steps: images × steps of inversion, images × epochs of training, or images.
        size: bytes in the store.
        stored: whether the store has it.
        pixels: whether inversion optimises images, not features.
    """

    stage: str
    key: str
    images: int
    steps: int
    size: int
    stored: bool
    pixels: bool = True


@dataclass(frozen=True)
class Cost:
    """The results that a run needs, each once; `folder` is the size of its own files in bytes."""

    items: tuple[Item, ...]
    folder: int

    def left(self, stage: str, but: Collection[str] = ()) -> list[Item]:
        """Return the results of a stage that are to be computed, without those of keys `but`."""
        return [item for item in self.of(stage) if not item.stored and item.key not in but]

    def of(self, stage: str) -> list[Item]:
        """Return the results of a stage, stored or not."""
        return [item for item in self.items if item.stage == stage]

    def size(self, but: Collection[str] = ()) -> int:
        """Return the bytes to be written: results in the store, and the run's own files."""
        return self.folder + sum(item.size for item in self.items
                                 if not item.stored and item.key not in but)


def cost_of(experiment: Experiment) -> Cost:
    """Return the cost of a run that is ready to start. Reads which entries exist; runs nothing.

    Unfinished inversions of killed runs count as not begun. Sizes are those of fp32 tensors;
    pixels that the store caches, tables and pages are left out.
    """
    counted = _Counted(experiment)
    items = {item.key: item for item in
             (*counted.inversions(), *counted.models(), *counted.evaluations())}
    return Cost(tuple(items.values()), counted.folder())


@dataclass(frozen=True)
class _Counted:
    experiment: Experiment

    def inversions(self) -> Iterator[Item]:
        experiment, images = self.experiment, self.experiment.images
        config, own = experiment.config, experiment.calibrator
        if experiment.trains:
            if config.finetune.images == "inverted":
                keys = [images.inversion_key(concept) for concept in experiment.concepts]
                yield from self._captions(images, keys, config.inversion.images)
            plan = experiment.groups[0].plan
            yield from self._rehearsed(images, plan.rehearsed if plan else [])
            if isinstance(images, TrainingFeatures) and config.inversion.statistics == "prompts":
                prompts = [own[0] for own in experiment.benchmark.known_prompts()]
                yield from self._rehearsed(images.of_pixels(), prompts)
        if own and own.labels:
            yield from self._rehearsed(own.own_images, own.labels)

    def models(self) -> Iterator[Item]:
        for group in self.experiment.groups:
            for number, key in enumerate(self._keys(group)):
                trained = group.plan is not None and (number or not group.edit)
                steps = sum(len(batch.images) for batch in group.plan.batches) \
                    if group.plan and trained else 0
                images = sum(map(self.experiment.images.count, group.concepts)) if trained else 0
                yield Item(FINETUNE, key, images, steps,
                           self._trained_size if trained else self._edited_size,
                           self.experiment.store.has(FINETUNE, key))

    def evaluations(self) -> Iterator[Item]:
        experiment, evaluator = self.experiment, self.experiment.evaluator
        if not isinstance(evaluator, Counted):
            return
        entries = [entry for group in experiment.groups
                   for entry in evaluator.outcome_keys(group.concepts, FROZEN)]
        yield self._evaluation("untrained", entries, evaluator.image_count(experiment.concepts))
        for group in experiment.groups:
            share = experiment.config.finetune.interpolation
            weights = Weights(interpolated_key(self._keys(group)[-1], share), {})
            yield self._evaluation(weights.key, evaluator.outcome_keys(group.concepts, weights),
                                   evaluator.image_count(group.concepts))

    def folder(self) -> int:
        """Return the bytes of the run's own copies: inverted images, and models if saved."""
        experiment, config = self.experiment, self.experiment.config
        size = 0
        if experiment.trains and config.finetune.images == "inverted":
            of_one = self._image_size(experiment.images)
            pngs = 0 if isinstance(experiment.images, TrainingFeatures) else of_one // FP32
            size += len(experiment.concepts) * config.inversion.images * (of_one + pngs)
        if config.finetune.save_models:
            size += len(experiment.groups) * (self._trained_size if experiment.trains
                                              else self._edited_size)
        return size

    def _keys(self, group: Group) -> list[str]:
        """Return the store keys of a group's weights: of the edit, of training, or of both."""
        experiment, keys = self.experiment, []
        if group.edit:
            assert experiment.editor
            keys.append(experiment.editor.key(group.concepts, group.edit))
        if group.plan:
            keys.append(experiment.training_key(group, keys[-1] if keys else FROZEN.key))
        return keys

    def _rehearsed(self, images: TrainingImages, prompts: Iterable[str]) -> Iterator[Item]:
        keys = images.rehearsal_captions(prompts)
        yield from self._captions(images, keys, images.finetune.rehearsal_per_class)

    def _captions(self, images: TrainingImages, keys: Iterable[str], count: int) -> Iterator[Item]:
        """Yield the images of captions, `count` of each."""
        settings, size = images.inversion, self._image_size(images)
        steps = 1 if settings.layers == PROJECTION else settings.steps
        for key in keys:
            yield Item(INVERSION, key, count, count * steps, count * size,
                       self.experiment.store.has(images.kind, key),
                       not isinstance(images, TrainingFeatures))

    def _evaluation(self, name: str, entries: list[tuple[str, str]], images: int) -> Item:
        stored = bool(entries) and all(self.experiment.store.has(*entry) for entry in entries)
        key = " ".join([EVALUATION, name, *(key for _, key in entries)])
        return Item(EVALUATION, key, images, images, 0, stored)

    def _image_size(self, images: TrainingImages) -> int:
        """Return the bytes of one inverted image, or of its features."""
        model, settings = images.inverted_model, images.inversion
        if isinstance(images, TrainingFeatures):
            blank = torch.zeros(1, CHANNELS, model.image_size, model.image_size)
            return FP32 * images.top.features_of(blank).numel()
        side = size_at(replace(settings, sizes=settings.sizes[-1:], upsize_at=[]), 0,
                       model.image_size)
        return FP32 * CHANNELS * side**2

    @cached_property
    def _trained_size(self) -> int:
        strategy = self.experiment.config.finetune.strategy
        return FP32 * sum(parameter.numel() for parameter in trained_parameters(
            self.experiment.images.learner, strategy).values())

    @cached_property
    def _edited_size(self) -> int:
        part = self.experiment.model.towers()["visual_projection"]
        return FP32 * sum(parameter.numel() for parameter in part.values())
