"""Images as a model wants them, decoded once: kept in memory for all jobs of a process, and in the
store for other processes, from where they are mapped into memory shard by shard.

What fine-tuned models differ in comes after: a sweep shows the same images to each of them. Pixels
are bytes wherever nothing is lost by it.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.errors import UserError
from kt_exp.models.protocol import Model, SignedTransform
from kt_exp.store import Store, signature

log = logging.getLogger(__name__)

KIND = "pixels"
VERSION = 1  # of how images are opened and pixels kept; what models do to them they sign themselves
LIMIT_BYTES = 2**30  # in memory
SHARD_BYTES = 2**26  # of an entry of the store: what a killed run decodes again at most

# How transforms make numbers in [0, 1] of bytes: torchvision's ToTensor, and its v2.ToDtype. Half
# of the 256 differ by a rounding.
SCALES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda levels: levels.float().div_(255), lambda levels: levels.float().mul_(1 / 255))

Problem = tuple[str, str, str]
Decode = Callable[[range], Iterable["Block"]]


class Block(NamedTuple):
    """Consecutive images of a set.

    Attributes:
        images: how many they are.
        pixels: of the readable ones, `(R, 3, H, W)`, uint8 or fp32.
        problems: what is wrong with the others, by their position in the block.
        scale: which of `SCALES` makes the model's numbers of bytes.
    """

    images: int
    pixels: Tensor
    problems: dict[int, Problem]
    scale: int = 0

    def part(self, begin: int, end: int) -> Block:
        """Return the images at positions `begin` to `end`."""
        first, last = (at - sum(bad < at for bad in self.problems) for at in (begin, end))
        return self._replace(images=end - begin, pixels=self.pixels[first:last], problems={
            bad - begin: problem for bad, problem in self.problems.items() if begin <= bad < end})

    def on(self, device: torch.device | str) -> Tensor:
        """Return the pixels as the model made them, bit for bit, on `device`."""
        moved = self.pixels.to(device, non_blocking=True)
        if moved.dtype != torch.uint8:
            return moved
        scale = SCALES[self.scale]
        return scale(moved) if moved.device.type == "cpu" else looked_up(scale, moved)


def looked_up(scale: Callable[[Tensor], Tensor], levels: Tensor) -> Tensor:
    """Return `scale(levels)` as the CPU computes it; a GPU would round otherwise."""
    return scale(torch.arange(256, dtype=torch.uint8)).to(levels.device)[levels.long()]


def packed(pixels: Tensor) -> Block:
    """Return images `(B, 3, H, W)` as bytes where nothing is lost by it, else as they are."""
    # In one order in memory, as the store keeps them: networks round otherwise in another.
    pixels = pixels.contiguous()
    levels = (pixels * 255).round_().to(torch.uint8)
    for number, scaled in enumerate(SCALES):
        if torch.equal(scaled(levels), pixels):
            return Block(len(pixels), levels, {}, number)
    return Block(len(pixels), pixels, {})


def joined(blocks: Sequence[Block]) -> Block:
    """Return consecutive blocks (at least one) as one."""
    if len(blocks) == 1:
        return blocks[0]
    count, problems = 0, dict[int, Problem]()
    for block in blocks:
        problems |= {count + bad: problem for bad, problem in block.problems.items()}
        count += block.images
    readable = [block for block in blocks if len(block.pixels)]
    if not readable:
        return Block(count, torch.empty(0), problems)
    if len({(block.pixels.dtype, block.scale) for block in readable}) > 1:
        whole = packed(torch.cat([block.on("cpu") for block in readable]))
    else:
        whole = readable[0]._replace(pixels=torch.cat([block.pixels for block in readable]))
    return whole._replace(images=count, problems=problems)


def regrouped(blocks: Iterable[Block], size: int) -> Iterator[Block]:
    """Yield the same images in blocks of `size`, the last one shorter."""
    held: list[Block] = []
    for block in blocks:
        taken = 0
        while taken < block.images:
            end = min(block.images, taken + size - _count(held))
            held.append(block.part(taken, end))
            taken = end
            if _count(held) == size:
                yield joined(held)
                held = []
    if held:
        yield joined(held)


def without(blocks: Iterable[Block], first: int) -> Iterator[Block]:
    """Yield the same images but for the `first` so many."""
    for block in blocks:
        skipped = min(first, block.images)
        first -= skipped
        if skipped < block.images:
            yield block.part(skipped, block.images)


class Key(NamedTuple):
    """Whose pixels: `owner` is what the model's preprocessing is signed by, or its network;
    `images` a fingerprint."""

    owner: str | weakref.ref[nn.Module]
    images: str


class PixelCache:
    """Whole image sets in memory, at most `limit` bytes; those not used for longest go first."""

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self.limit = limit
        self._sets: dict[Key, list[Block]] = {}

    def blocks(self, key: Key, start: int, load: Iterable[Block]) -> Iterator[Block]:
        """Yield the images of a set from `start` on: as they are kept, or else from `load`.

        What is loaded from 0 to the end is kept then.
        """
        if (kept := self._sets.pop(key, None)) is not None:
            self._sets[key] = kept  # now the one used last
            yield from without(kept, start)
            return
        loaded: list[Block] | None = None if start else []
        for block in load:
            if loaded is not None:
                loaded.append(block)
                loaded = loaded if _bytes(loaded) <= self.limit else None
            yield block
        if loaded is not None:
            self._keep(key, loaded)

    def clear(self) -> None:
        """Forget all, as a new process does."""
        self._sets.clear()

    def _keep(self, key: Key, loaded: list[Block]) -> None:
        for other in [other for other in self._sets if _is_gone(other.owner)]:
            del self._sets[other]
        self._sets[key] = loaded
        while sum(map(_bytes, self._sets.values())) > self.limit:
            del self._sets[next(iter(self._sets))]


@dataclass(frozen=True)
class Shards:
    """An image set in the store, `size` images to an entry, whatever the batches are.

    An entry is read by mapping it, one at a time, so that a set may be larger than memory. Images
    that cannot be read are never kept: shards with such are decoded each time, and say so.
    """

    store: Store
    key: Key
    count: int
    size: int

    def blocks(self, start: int, decode: Decode) -> Iterator[Block]:
        """Yield the images from `start` on; shards that are not there are decoded and kept."""
        first = start - start % self.size
        whole = (block for begin in range(first, self.count, self.size)
                 for block in self._shard(range(begin, min(begin + self.size, self.count)), decode))
        return without(whole, start - first)

    def _shard(self, images: range, decode: Decode) -> Iterator[Block]:
        key = signature([VERSION, *self.key, images.start, images.stop])
        if entry := self.store.fetch(KIND, key):
            yield Block(len(images), entry.tensors["pixels"], {}, entry.record["scale"])
            return
        decoded = []
        for block in decode(images):
            decoded.append(block)
            yield block
        whole = joined(decoded)
        if not whole.problems and whole.pixels.dtype == torch.uint8:
            self._keep(key, whole)

    def _keep(self, key: str, shard: Block) -> None:
        try:
            self.store.commit(KIND, key, {"scale": shard.scale}, {"pixels": shard.pixels})
        except UserError as error:  # No result depends on it.
            log.warning("Pixels are decoded again next time: %s", error)


def pixel_key(model: Model, images: ImageSet) -> Key:
    """Return whose pixels a model's images are: all models' that do the same to them, if it says
    what it does."""
    transform = model.to_tensor
    owner = transform.signature if isinstance(transform, SignedTransform) \
        else weakref.ref(model.module)
    return Key(owner, images.fingerprint())


def shards(store: Store | None, key: Key, count: int, image_size: int) -> Shards | None:
    """Return where the store has a set of `count` images; None where it is not to be kept."""
    one = image_bytes(image_size)
    if store is None or not store.pixel_bytes or not isinstance(key.owner, str):
        return None
    if count * one > store.pixel_bytes:
        _say_once(f"Not keeping the pixels of {count} images: they take {count * one / 2**30:.1f} "
                  "GiB, more than store.pixels_gib.")
        return None
    return Shards(store, key, count, max(1, SHARD_BYTES // one))


def image_bytes(image_size: int) -> int:
    """Return the bytes of one image of a model."""
    return 3 * image_size**2


@cache
def _say_once(line: str) -> None:
    log.info(line)


def _count(blocks: Iterable[Block]) -> int:
    return sum(block.images for block in blocks)


def _bytes(blocks: Iterable[Block]) -> int:
    return sum(block.pixels.nbytes for block in blocks)


def _is_gone(owner: str | weakref.ref[nn.Module]) -> bool:
    return not isinstance(owner, str) and owner() is None
