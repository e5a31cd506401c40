"""Which image meets which caption at which step, planned before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kt_exp.errors import UserError


@dataclass(frozen=True)
class Batch:
    """Indices of one step: into the training images, and into the captions."""

    images: Tensor
    captions: Tensor


def plan(captions_of: Sequence[Sequence[int]], batch_size: int, epochs: int,
         seed: int) -> list[Batch]:
    """Return the batches of all epochs, shuffled by `seed`.

    Args:
        captions_of: for each training image, the captions it may meet. An image starts at a random
            one and goes on to the next at each epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    first = [int(torch.randint(len(own), (1,), generator=generator)) for own in captions_of]
    batches = []
    for epoch in range(epochs):
        order = torch.randperm(len(captions_of), generator=generator)
        for images in order.split(batch_size):
            met = [captions_of[i][(first[i] + epoch) % len(captions_of[i])]
                   for i in images.tolist()]
            batches.append(Batch(images, torch.tensor(met)))
    return batches


def refuse_unteachable(batches: Sequence[Batch], loss: str) -> None:
    """Refuse a plan with a batch that `loss` cannot learn from.

    CLIP's InfoNCE has no image→text gradient where all captions of a batch are the same, and
    NT-Xent none where a batch is a single pair.

    Raises:
        UserError: names the key to change.
    """
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
