"""Image and class embeddings of a model: what zero-shot evaluation is computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from kt_exp.benchmarks.pixels import (
    Block,
    PixelCache,
    Problem,
    image_bytes,
    joined,
    packed,
    pixel_key,
    regrouped,
    shards,
)
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.errors import UserError
from kt_exp.models.protocol import DualEncoder, Model, ProjectedEncoder
from kt_exp.progress import Progress
from kt_exp.store import Store

PIXELS = PixelCache()


class LoaderSettings(Protocol):
    """How images are loaded: a benchmark has these keys."""

    batch_size: int
    workers: int
    on_bad_image: str


class ImageBatch(NamedTuple):
    """Images `(B, 3, H, W)` with their labels `(B,)`, and what is wrong with those left out."""

    pixels: Tensor
    labels: Tensor
    problems: list[Problem]


@dataclass
class Embedded:
    """Embedded images, on the CPU.

    Attributes:
        embeddings: unit norm (unless another `encode` gives others), fp32, `(N, D)`.
        labels: class index of each image, int64, `(N,)`.
        skipped: paths of the images left out because they could not be read.
    """

    embeddings: Tensor
    labels: Tensor
    skipped: list[str]


def embed_images(
    model: DualEncoder, images: ImageSet, settings: LoaderSettings, progress: Progress,
    description: str, encode: Callable[[Tensor], Tensor] | None = None,
    store: Store | None = None,
) -> Embedded:
    """Return the embeddings of all readable images, in order. Leaves the model in eval mode.

    `encode` replaces `model.encode_image`: images `(B, 3, H, W)` → any `(B, F)`. `store` is where
    pixels are kept for other processes.

    Raises:
        UserError: an unreadable image under `on_bad_image: error`, not one readable image, or
            embeddings that are not finite.
    """
    model.module.eval()
    encode = encode or model.encode_image
    embeddings, labels, problems = [], [], []
    with torch.no_grad(), progress(description, len(images)) as bar:
        for batch in image_batches(model, images, settings, settings.batch_size, store=store):
            problems += batch.problems
            if len(batch.labels):
                # Results stay on the device: fetching each batch would stall the next one.
                embeddings.append(encode(batch.pixels))
                labels.append(batch.labels)
            bar.advance(len(batch.labels) + len(batch.problems))
    if not embeddings:
        raise UserError(description, "not one readable image", "check the benchmark's folders")
    return Embedded(_checked(torch.cat(embeddings), description), torch.cat(labels),
                    [path for path, _, _ in problems])


def project(model: ProjectedEncoder, features: Embedded, chunk: int) -> Embedded:
    """Return the embeddings of images whose trunk's features are given, `chunk` at once."""
    with torch.no_grad():
        embeddings = torch.cat([model.project(some) for some in features.embeddings.split(chunk)])
    return Embedded(_checked(embeddings, "Projecting"), features.labels, features.skipped)


def image_batches(model: Model, images: ImageSet, settings: LoaderSettings, batch_size: int,
                  start: int = 0, store: Store | None = None) -> Iterator[ImageBatch]:
    """Yield the images from `start` on, in order, as the model wants them and on its device.

    They are decoded once: kept in memory, unless they are many, and in `store`, if there is one.

    Raises:
        UserError: an unreadable image under `on_bad_image: error`.
    """
    labels, at = images.labels, start
    blocks = _blocks(model, images, settings, batch_size, start, store)
    for block in regrouped(blocks, batch_size):
        if block.problems and settings.on_bad_image == "error":
            raise UserError(*next(iter(block.problems.values())))
        readable = [labels[at + i] for i in range(block.images) if i not in block.problems]
        at += block.images
        yield ImageBatch(block.on(model.device),
                         torch.tensor(readable, dtype=torch.long), [*block.problems.values()])


def _blocks(model: Model, images: ImageSet, settings: LoaderSettings, batch_size: int,
            start: int, store: Store | None) -> Iterator[Block]:
    def decode(some: range) -> Iterator[Block]:
        yield from DataLoader(
            Subset(_Decoded(images, model.to_tensor), some), batch_size=batch_size,
            num_workers=settings.workers, collate_fn=joined,
            pin_memory=model.device.type == "cuda")

    count, key = len(images), pixel_key(model, images)
    kept = shards(store, key, count, model.image_size)
    blocks = kept.blocks(start, decode) if kept else decode(range(start, count))
    fits = count * image_bytes(model.image_size) <= PIXELS.limit
    return PIXELS.blocks(key, start, blocks) if fits else blocks


def text_classifier(
    model: DualEncoder, prompts_per_class: Sequence[Sequence[str]], chunk: int,
    progress: Progress, description: str,
) -> Tensor:
    """Return one embedding per class `(C, D)`, unit norm, fp32, on the CPU.

    Prompt ensembling of CLIP (Radford et al. 2021, 3.1.4): the mean of the unit-norm embeddings
    of a class's prompts, normalised again.

    Args:
        prompts_per_class: at least one prompt for each of the C classes.
        chunk: prompts encoded at once.
    """
    model.module.eval()
    prompts = [prompt for prompts in prompts_per_class for prompt in prompts]
    encoded = []
    with torch.no_grad(), progress(description, len(prompts)) as bar:
        for start in range(0, len(prompts), chunk):
            some = prompts[start : start + chunk]
            encoded.append(model.encode_text(some))
            bar.advance(len(some))
    per_class = torch.cat(encoded).float().cpu().split([len(p) for p in prompts_per_class])
    return F.normalize(torch.stack([of_one.mean(dim=0) for of_one in per_class]), dim=-1)


def _checked(embeddings: Tensor, description: str) -> Tensor:
    joined = embeddings.float().cpu()
    if not joined.isfinite().all():
        raise UserError("model", f"{description}: embeddings are not finite",
                        "lower finetune.lr, or set precision=fp32")
    return joined


class _Decoded(Dataset[Block]):
    """Images as the model wants them. A bad one is returned as its problem, not raised: an
    exception would lose its parts on the way out of a loader process."""

    def __init__(self, images: ImageSet, to_tensor: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.to_tensor = images, to_tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Block:
        try:
            image = self.images.open(index)
        except UserError as error:
            return Block(1, torch.empty(0), {0: (error.where, error.problem, error.remedy)})
        return packed(self.to_tensor(image)[None])
