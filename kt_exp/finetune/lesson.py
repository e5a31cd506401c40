"""What is taught: which image meets which caption at which step, planned before any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kt_exp.captions import training_captions
from kt_exp.concepts import Concept
from kt_exp.errors import UserError
from kt_exp.finetune.settings import FinetuneSettings


@dataclass(frozen=True)
class Batch:
    """Indices of one step: into the training images, the captions, and the rehearsal images."""

    images: Tensor
    captions: Tensor
    rehearsal: Tensor


@dataclass(frozen=True)
class Lesson:
    """All captions and the batches of all epochs.

    `negatives` are the prompts of known classes, one list a class, for the `bank` loss;
    `rehearsed` those prompts, one a class, whose inverted images are rehearsed.
    """

    captions: list[str]
    batches: list[Batch]
    negatives: list[list[str]]
    rehearsed: list[str]


def plan_lesson(concepts: Sequence[Concept], images_of: Sequence[int], settings: FinetuneSettings,
                known: list[list[str]], seed: int) -> Lesson:
    """Return the lesson of `concepts`, with `images_of` images of each, in that order.

    `known` are the prompts of the known classes, one list a class.

    Raises:
        UserError: the loss cannot learn from one of the batches.
    """
    captions: list[str] = []
    met_by: list[list[int]] = []
    for concept, count in zip(concepts, images_of, strict=True):
        own = training_captions(concept, settings.captions, settings.templates)
        numbers = list(range(len(captions), len(captions) + len(own)))
        captions += own
        met_by += [numbers] * count
    rehearsed = [prompts[0] for prompts in known] if settings.rehearsal else []
    batches = plan_batches(met_by, settings.batch_size, settings.epochs, seed,
                           len(rehearsed) * settings.rehearsal_per_class,
                           settings.rehearsal_batch)
    _refuse_unteachable(batches, settings.loss)
    return Lesson(captions, batches, known if settings.loss == "bank" else [], rehearsed)


def plan_batches(captions_of: Sequence[Sequence[int]], batch_size: int, epochs: int, seed: int,
                 rehearsal_images: int = 0, rehearsal_batch: int = 0) -> list[Batch]:
    """Return the batches of all epochs, shuffled by `seed`.

    Args:
        captions_of: for each training image, the captions it may meet. An image starts at a random
            one and goes on to the next at each epoch.
        rehearsal_images: how many there are, of which each step takes `rehearsal_batch`.
    """
    generator = torch.Generator().manual_seed(seed)
    first = [int(torch.randint(len(own), (1,), generator=generator)) for own in captions_of]
    batches = []
    for epoch in range(epochs):
        order = torch.randperm(len(captions_of), generator=generator)
        for images in order.split(batch_size):
            met = [captions_of[i][(first[i] + epoch) % len(captions_of[i])]
                   for i in images.tolist()]
            rehearsal = torch.randperm(rehearsal_images, generator=generator)[:rehearsal_batch]
            batches.append(Batch(images, torch.tensor(met), rehearsal))
    return batches


def _refuse_unteachable(batches: Sequence[Batch], loss: str) -> None:
    """CLIP's InfoNCE has no image→text gradient where all captions of a batch are the same, and
    NT-Xent none where a batch is a single pair."""
    for batch in batches:
        if loss == "clip" and len(batch.captions.unique()) == 1:
            raise UserError(
                "finetune.loss", "'clip' learns nothing from a batch whose captions are all the "
                "same, as with one concept",
                "use ntxent or bank, or finetune.scope=joint with several concepts",
            )
        if loss == "ntxent" and len(batch.images) == 1:
            raise UserError(
                "finetune.batch_size", "leaves a batch of one image, from which 'ntxent' learns "
                "nothing", "choose another batch size, or finetune.loss=bank",
            )
