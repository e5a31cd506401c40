"""The training plan: which image is paired with which caption at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kt_exp.concepts import Concept
from kt_exp.concepts.captions import fill, training_captions
from kt_exp.errors import UserError
from kt_exp.finetune.settings import FinetuneSettings


class Batch(NamedTuple):
    """The indices of one step of B images.

    Attributes:
        images: into the training images, `(B,)`.
        captions: into the plan's captions, `(B,)`.
        rehearsal: into the rehearsal images, `(R,)`.
        targets: into the plan's target captions, `(B,)`; `(0,)` without a captioning loss.
        negatives: into the plan's negative captions, `(B, K)`; K = 0 except with the loss `itm`.
        maskings: index of the masking of each image's caption, `(B,)`.
    """

    images: Tensor
    captions: Tensor
    rehearsal: Tensor
    targets: Tensor
    negatives: Tensor
    maskings: Tensor


@dataclass(frozen=True)
class TrainingPlan:
    """All captions and the batches of all epochs.

    Attributes:
        negatives: the prompts of each known class, for the loss `class_ce`.
        rehearsed: one prompt per known class, whose inverted images are rehearsed; a prompt that
            several classes share is listed once.
        targets: target captions of a captioner.
        negative_captions: captions that do not match, for the loss `itm`.
        seed: seed of masking and of dropout.
    """

    captions: list[str]
    batches: list[Batch]
    negatives: list[list[str]]
    rehearsed: list[str]
    targets: list[str]
    negative_captions: list[str]
    seed: int


def plan_training(concepts: Sequence[Concept], images_of: Sequence[int], settings: FinetuneSettings,
                  known: list[list[str]], seed: int) -> TrainingPlan:
    """Return the training plan of `concepts`; concept i has `images_of[i]` images.

    `known` has the prompts of each known class.

    Raises:
        UserError: the loss has no gradient for one of the batches, or needs known classes or a
            second concept.
    """
    if not known:
        _refuse_need_of_classes(settings)
    learners = [_Learner.of(concept, settings) for concept in concepts]
    captions = _numbered([learner.captions for learner in learners])
    targets = _numbered([learner.targets for learner in learners])
    negatives = _negatives(learners, settings, known)
    owners = [number for number, count in enumerate(images_of) for _ in range(count)]
    rehearsed = list(dict.fromkeys(prompts[0] for prompts in known)) if settings.rehearsal else []
    plan = _Plan(
        captions_of=[captions.of[owner] for owner in owners],
        targets_of=[targets.of[owner] for owner in owners] if targets.texts else [],
        negatives_of=[negatives.of[owner] for owner in owners] if negatives.texts else [],
        negatives_per_image=settings.itm_negatives_per_image,
        maskings=settings.maskings if settings.loss == "mlm" else 1,
        rehearsal_images=len(rehearsed) * settings.rehearsal_per_class,
        rehearsal_batch=settings.rehearsal_batch,
    )
    batches = plan.batches(settings.batch_size, settings.epochs, seed)
    if settings.contrastive_weight:
        _refuse_unteachable(batches, settings.loss)
    return TrainingPlan(captions.texts, batches, known if settings.loss == "class_ce" else [],
                        rehearsed, targets.texts, negatives.texts, seed)


class _Learner(NamedTuple):
    """A concept's captions, and the target captions of its images."""

    captions: list[str]
    targets: list[str]

    @classmethod
    def of(cls, concept: Concept, settings: FinetuneSettings) -> _Learner:
        captions = training_captions(concept, settings.captions, settings.templates,
                                     settings.article)
        templates = settings.caption_targets if settings.caption_weight else []
        return cls(captions, [fill(template, concept.name, concept.plural)
                              for template in templates])


class _Numbered(NamedTuple):
    """Texts of all concepts in one list, and the indices of each concept's own."""

    texts: list[str]
    of: list[list[int]]


def _numbered(groups: Sequence[Sequence[str]]) -> _Numbered:
    texts: list[str] = []
    numbers = []
    for group in groups:
        numbers.append(list(range(len(texts), len(texts) + len(group))))
        texts += group
    return _Numbered(texts, numbers)


def _negatives(learners: Sequence[_Learner], settings: FinetuneSettings,
               known: list[list[str]]) -> _Numbered:
    """Return the captions that do not match an image of each concept, for the loss `itm`.

    They are the captions of the other concepts, or the prompts of known classes: if the settings
    say so, or if there is no other concept.
    """
    if settings.loss != "itm":
        return _Numbered([], [[] for _ in learners])
    if settings.itm_negatives == "concepts" and len(learners) > 1:
        every = _numbered([learner.captions for learner in learners])
        others = [[n for number, own in enumerate(every.of) for n in own if number != learner]
                  for learner in range(len(learners))]
        return _Numbered(every.texts, others)
    prompts = [prompt for own in known for prompt in own]
    if not prompts:
        raise UserError("finetune.loss", "'itm' finds no negative captions: the benchmark has no "
                        "known classes, and there is no second concept",
                        "use finetune.scope=joint and itm_negatives=concepts with several concepts")
    return _Numbered(prompts, [list(range(len(prompts)))] * len(learners))


@dataclass(frozen=True)
class _Plan:
    """The indices of captions, targets and negatives that each training image may get."""

    captions_of: Sequence[Sequence[int]]
    targets_of: Sequence[Sequence[int]]
    negatives_of: Sequence[Sequence[int]]
    negatives_per_image: int
    maskings: int
    rehearsal_images: int
    rehearsal_batch: int

    def batches(self, batch_size: int, epochs: int, seed: int) -> list[Batch]:
        """Return the batches of all epochs, shuffled by `seed`.

        An image starts with a random caption and takes the next one in each epoch. It also cycles
        through the maskings, starting at its own index. Targets and negatives are drawn anew at
        each step.
        """
        generator = torch.Generator().manual_seed(seed)
        first = [_draw(len(own), 1, generator)[0] for own in self.captions_of]
        batches = []
        for epoch in range(epochs):
            order = torch.randperm(len(self.captions_of), generator=generator)
            for images in order.split(batch_size):
                chosen = images.tolist()
                batches.append(Batch(
                    images,
                    captions=torch.tensor([self._caption(i, first[i] + epoch) for i in chosen]),
                    rehearsal=torch.randperm(self.rehearsal_images, generator=generator)
                    [:self.rehearsal_batch],
                    targets=_drawn(self.targets_of, chosen, 1, generator).flatten(),
                    negatives=_drawn(self.negatives_of, chosen, self.negatives_per_image,
                                    generator),
                    maskings=(images + epoch) % self.maskings,
                ))
        return batches

    def _caption(self, image: int, turn: int) -> int:
        own = self.captions_of[image]
        return own[turn % len(own)]


def _drawn(pools: Sequence[Sequence[int]], images: Sequence[int], count: int,
          generator: torch.Generator) -> Tensor:
    """Return `count` random items of each image's pool, `(B, count)`; `(B, 0)` without pools."""
    if not pools:
        return torch.empty(len(images), 0, dtype=torch.long)
    return torch.tensor([[pools[i][n] for n in _draw(len(pools[i]), count, generator)]
                         for i in images])


def _draw(below: int, count: int, generator: torch.Generator) -> list[int]:
    return torch.randint(below, (count,), generator=generator).tolist()


def _refuse_need_of_classes(settings: FinetuneSettings) -> None:
    if settings.loss == "class_ce":
        raise UserError("finetune.loss",
                        "'class_ce' needs known classes, and this benchmark has none",
                        "use ntxent, or clip with finetune.scope=joint and several concepts")
    if settings.rehearsal:
        raise UserError("finetune.rehearsal", "needs known classes, and this benchmark has none",
                        "set it to 0")


def _refuse_unteachable(batches: Sequence[Batch], loss: str) -> None:
    """Check that the loss has a gradient for every batch.

    CLIP's InfoNCE has no image→text gradient if all captions of a batch are the same; NT-Xent has
    none if the batch is a single pair.

    Raises:
        UserError: it has none.
    """
    for batch in batches:
        if loss == "clip" and len(batch.captions.unique()) == 1:
            raise UserError(
                "finetune.loss", "'clip' learns nothing from a batch whose captions are all the "
                "same, as with one concept",
                "use ntxent or class_ce, or finetune.scope=joint with several concepts",
            )
        if loss == "ntxent" and len(batch.images) == 1:
            raise UserError(
                "finetune.batch_size", "leaves a batch of one image, from which 'ntxent' learns "
                "nothing", "choose another batch size, or finetune.loss=class_ce",
            )
