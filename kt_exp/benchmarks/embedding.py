"""Image and class embeddings for zero-shot evaluation with dual encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from kt_exp.benchmarks.pixels import Block, Problem, as_bytes, decoded_once, regrouped
from kt_exp.benchmarks.prepared import PreparedImages
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.errors import UserError
from kt_exp.models.protocol import ClassPromptEncoder, DualEncoder, Model, ProjectedEncoder
from kt_exp.progress import Progress
from kt_exp.store import Store


class LoaderSettings(Protocol):
    """Settings for loading images: keys of every benchmark."""

    batch_size: int
    workers: int
    on_bad_image: str


class ImageBatch(NamedTuple):
    """Readable images `(B, 3, H, W)`, their labels `(B,)`, and the problems of unreadable ones."""

    pixels: Tensor
    labels: Tensor
    problems: list[Problem]


@dataclass
class Embedded:
    """Embedded images, on the CPU.

    Attributes:
        embeddings: fp32, `(N, D)`; unit norm unless made by another `encode`.
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

    `encode` replaces `model.encode_image`: images `(B, 3, H, W)` → any `(B, F)`. `store` caches
    decoded pixels for other processes.

    Raises:
        UserError: an unreadable image under `on_bad_image: error`, no readable image, or
            embeddings that are not finite.
    """
    model.module.eval()
    encode = encode or model.encode_image
    embeddings, labels, problems = [], [], []
    with torch.no_grad(), progress(description, len(images)) as bar:
        for batch in image_batches(model, images, settings, settings.batch_size, store=store):
            problems += batch.problems
            if len(batch.labels):
                # Results stay on the device: a copy per batch would stall the next batch.
                embeddings.append(encode(batch.pixels))
                labels.append(batch.labels)
            bar.advance(len(batch.labels) + len(batch.problems))
    if not embeddings:
        raise UserError(description, "not one readable image", "check the benchmark's folders")
    return Embedded(_checked(torch.cat(embeddings), description), torch.cat(labels),
                    [path for path, _, _ in problems])


def project(model: ProjectedEncoder, features: Embedded, chunk: int) -> Embedded:
    """Return the image embeddings for given trunk features, projected `chunk` images at a time."""
    with torch.no_grad():
        embeddings = torch.cat([model.project(part) for part in features.embeddings.split(chunk)])
    return Embedded(_checked(embeddings, "Projecting"), features.labels, features.skipped)


def image_batches(model: Model, images: ImageSet, settings: LoaderSettings, batch_size: int,
                  start: int = 0, store: Store | None = None) -> Iterator[ImageBatch]:
    """Yield the images from `start` on, in order, preprocessed for the model and on its device.

    Images are decoded once; `PreparedImages` are taken as they are. Small sets are cached in
    memory; `store`, if given, caches them too.

    Raises:
        UserError: an unreadable image under `on_bad_image: error`.
    """
    def decode(indices: range) -> Iterator[Block]:
        yield from DataLoader(
            Subset(_Decoded(images, model), indices), batch_size=batch_size,
            num_workers=settings.workers, collate_fn=_collated,
            pin_memory=model.device.type == "cuda")

    labels, at = torch.tensor(images.labels, dtype=torch.long), start
    if isinstance(images, PreparedImages):
        for pixels, own in zip(images.pixels[start:].split(batch_size),
                               labels[start:].split(batch_size), strict=True):
            yield ImageBatch(pixels.to(model.device), own, [])
        return
    for block in regrouped(decoded_once(model, images, decode, store, start), batch_size):
        problems = [problem for problem in block.problems if problem]
        if problems and settings.on_bad_image == "error":
            raise UserError(*problems[0])
        pixels, end = block.on(model.device), at + len(block.problems)
        readable = torch.tensor([problem is None for problem in block.problems])
        yield ImageBatch(pixels[readable.to(pixels.device)] if problems else pixels,
                         labels[at:end][readable], problems)
        at = end


def text_classifier(
    model: DualEncoder, prompts_per_class: Sequence[Sequence[str]], chunk: int,
    progress: Progress, description: str,
) -> Tensor:
    """Return one embedding per class `(C, D)`, unit norm, fp32, on the CPU.

    Prompt ensembling of CLIP (Radford et al. 2021, 3.1.4): the mean of the unit-norm embeddings
    of a class's prompts, normalised again.

    Args:
        prompts_per_class: at least one prompt for each of the C classes.
        chunk: number of prompts encoded at a time.
    """
    per_class = encode_prompts(model, prompts_per_class, chunk, progress, description)
    return F.normalize(torch.stack([of_one.mean(dim=0) for of_one in per_class]), dim=-1)


def encode_prompts(
    model: DualEncoder, prompts_per_class: Sequence[Sequence[str]], chunk: int,
    progress: Progress, description: str,
) -> list[Tensor]:
    """Return the embeddings of each class's prompts `(P, D)`, unit norm, fp32, on the CPU.

    They do not depend on `chunk`: a model whose embeddings depend on the prompts beside them gets
    those of one class at a time. Leaves the model in eval mode.
    """
    model.module.eval()
    sizes = [len(prompts) for prompts in prompts_per_class]
    flat = [prompt for prompts in prompts_per_class for prompt in prompts]
    batches: Sequence[Sequence[str]] = [flat[i : i + chunk] for i in range(0, len(flat), chunk)]
    encode: Callable[[Sequence[str]], Tensor] = model.encode_text
    if isinstance(model, ClassPromptEncoder) and max(sizes, default=0) > 1:
        batches, encode = prompts_per_class, model.encode_class
    encoded = []
    with torch.no_grad(), progress(description, len(flat)) as bar:
        for batch in batches:
            encoded.append(encode(batch))
            bar.advance(len(batch))
    return list(torch.cat(encoded).float().cpu().split(sizes))


def _checked(embeddings: Tensor, description: str) -> Tensor:
    joined = embeddings.float().cpu()
    if not joined.isfinite().all():
        raise UserError("model", f"{description}: embeddings are not finite",
                        "lower finetune.lr, or set precision=fp32")
    return joined


class _Decoded(Dataset[tuple[Tensor, Problem | None]]):
    """Images preprocessed for a model, each with its problem, None if readable.

    A problem is returned, not raised: an exception from a loader process loses its attributes.
    """

    def __init__(self, images: ImageSet, model: Model) -> None:
        # Keep no reference to the model: it would be pickled for each loader process.
        self.images, self.to_tensor, self.side = images, model.to_tensor, model.image_size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Problem | None]:
        try:
            return self.to_tensor(self.images.open(index)), None
        except UserError as error:
            nothing = torch.zeros(3, self.side, self.side)
            return nothing, (error.where, error.problem, error.remedy)


def _collated(decoded: Sequence[tuple[Tensor, Problem | None]]) -> Block:
    block = as_bytes(torch.stack([pixels for pixels, _ in decoded]))
    return block._replace(problems=[problem for _, problem in decoded])
