"""Images as a model wants them, kept in memory: decoded once for all jobs and models of a process.

What fine-tuned models differ in comes after: a sweep shows the same images to each of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

LIMIT_BYTES = 2**30

Problem = tuple[str, str, str]


class ImageBatch(NamedTuple):
    """Images `(B, 3, H, W)` with their labels `(B,)`, and what is wrong with those left out."""

    pixels: Tensor
    labels: Tensor
    problems: list[Problem]


class Key(NamedTuple):
    """Whose images in which batches: `network` is that of the model, `images` a fingerprint."""

    network: weakref.ref[nn.Module]
    images: str
    batch_size: int


class PixelCache:
    """Batches of whole image sets, at most `limit` bytes; those not used for longest go first."""

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self.limit = limit
        self._sets: dict[Key, list[ImageBatch]] = {}

    def batches(self, key: Key, load: Iterable[ImageBatch]) -> Iterator[ImageBatch]:
        """Yield the batches of a set as they are kept, or from `load`, which are kept then."""
        if (kept := self._sets.pop(key, None)) is not None:
            self._sets[key] = kept  # now the one used last
            yield from (batch._replace(pixels=_unpacked(batch.pixels)) for batch in kept)
            return
        packed: list[ImageBatch] | None = []
        for batch in load:
            if packed is not None:
                packed.append(batch._replace(pixels=_packed(batch.pixels)))
                packed = packed if _bytes(packed) <= self.limit else None
            yield batch
        if packed is not None:
            self._keep(key, packed)

    def _keep(self, key: Key, packed: list[ImageBatch]) -> None:
        for other in [other for other in self._sets if other.network() is None]:
            del self._sets[other]
        self._sets[key] = packed
        while sum(map(_bytes, self._sets.values())) > self.limit:
            del self._sets[next(iter(self._sets))]


def _bytes(batches: Iterable[ImageBatch]) -> int:
    return sum(batch.pixels.nbytes for batch in batches)


def _packed(pixels: Tensor) -> Tensor:
    """Return pixels as bytes where nothing is lost by it, else as they are."""
    packed = (pixels * 255).round().to(torch.uint8)
    return packed if torch.equal(_unpacked(packed), pixels) else pixels


def _unpacked(pixels: Tensor) -> Tensor:
    # On the CPU: on a GPU the division would round otherwise.
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
