"""Cache of preprocessed images: in memory for jobs of this process, in the store for others.

Pixels are stored as bytes where that is lossless. Fine-tuning does not change preprocessing, so
all jobs of a sweep share the cache.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.errors import UserError
from kt_exp.models.protocol import Model, SignedTransform
from kt_exp.store import Store, signature

log = logging.getLogger(__name__)

KIND = "pixels"
VERSION = 1  # of opening and storing images; preprocessing has its own signature
MEMORY_BYTES = 2**30  # limit for one image set in memory, and for all sets together
SHARD_BYTES = 2**26  # size of a store entry: the most that a killed run decodes again

# The values in [0, 1] that torchvision makes of bytes: by ToTensor, and by v2.ToDtype. Half of
# them differ by rounding.
SCALES = (torch.arange(256).float() / 255, torch.arange(256).float() * (1 / 255))

Problem = tuple[str, str, str]  # the arguments of a UserError

_in_memory: WeakKeyDictionary[nn.Module, dict[str, Block]] = WeakKeyDictionary()


class Block(NamedTuple):
    """Consecutive images of a set.

    Attributes:
        pixels: `(B, 3, S, S)`, uint8 or fp32; zeros where an image cannot be read.
        scales: indices of the `SCALES` that restore the model's values; empty for fp32.
        problems: one per image; None if the image can be read.
    """

    pixels: Tensor
    scales: frozenset[int]
    problems: list[Problem | None]

    def part(self, begin: int, end: int | None = None) -> Block:
        """Return the images at positions `begin` to `end`."""
        return Block(self.pixels[begin:end], self.scales, self.problems[begin:end])

    def on(self, device: torch.device | str) -> Tensor:
        """Return the pixels in fp32 on `device`, bit-equal to the model's preprocessing."""
        moved = self.pixels.to(device, non_blocking=True)
        return _looked_up(moved, min(self.scales)) if self.scales else moved


def as_bytes(pixels: Tensor) -> Block:
    """Return images `(B, 3, S, S)` as bytes if that is lossless, else unchanged."""
    # Contiguous as from the store: a network's rounding depends on the memory layout.
    pixels = pixels.contiguous()
    levels = (pixels * 255).round_().to(torch.uint8)
    scales = frozenset(scale for scale in range(len(SCALES))
                       if torch.equal(_looked_up(levels, scale), pixels))
    return Block(levels if scales else pixels, scales, [None] * len(pixels))


def joined(blocks: Sequence[Block]) -> Block:
    """Concatenate one or more consecutive blocks."""
    scales = frozenset.intersection(*(block.scales for block in blocks))
    pixels = torch.cat([block.pixels if scales else block.on("cpu") for block in blocks])
    return Block(pixels, scales, [problem for block in blocks for problem in block.problems])


def regrouped(blocks: Iterable[Block], size: int) -> Iterator[Block]:
    """Yield the same images in blocks of `size`; the last block may be shorter."""
    rest: list[Block] = []
    for block in blocks:
        held = joined([*rest, block]) if rest else block
        whole = len(held.problems) // size * size
        for begin in range(0, whole, size):
            yield held.part(begin, begin + size)
        rest = [held.part(whole)] if whole < len(held.problems) else []
    yield from rest


def decoded_once(model: Model, images: ImageSet, decode: Callable[[range], Iterable[Block]],
                 store: Store | None, start: int = 0) -> Iterator[Block]:
    """Yield the images from `start` on: from memory, from the store, or else from `decode`.

    The store caches shards whose images are all readable and fit into bytes, for models with a
    `SignedTransform`. Shards are memory-mapped one at a time.
    """
    one, count, fingerprint = 3 * model.image_size**2, len(images), images.fingerprint()
    owner = model.to_tensor.signature if isinstance(model.to_tensor, SignedTransform) else None
    store = store if store and owner and _fits(store, count, one) else None
    size = max(1, SHARD_BYTES // one)
    skip = start % size
    for first in range(start - skip, count, size):
        shard = range(first, min(first + size, count))
        key = signature([VERSION, owner, fingerprint, shard.start, shard.stop])
        for block in _shard(model, key, shard, decode, store, count * one <= MEMORY_BYTES):
            skipped = min(skip, len(block.problems))
            skip -= skipped
            yield block.part(skipped)


def forget() -> None:
    """Clear the cache in memory."""
    _in_memory.clear()


def _shard(model: Model, key: str, images: range, decode: Callable[[range], Iterable[Block]],
           store: Store | None, in_memory: bool) -> Iterator[Block]:
    if whole := _in_memory.get(model.module, {}).get(key):
        yield whole
        return
    if store and (entry := store.fetch(KIND, key)):
        whole = Block(entry.tensors["pixels"], frozenset([entry.record["scale"]]),
                      [None] * len(images))
        yield whole
    else:
        decoded = []
        for block in decode(images):
            decoded.append(block)
            yield block
        whole = joined(decoded)
        if store and whole.scales and not any(whole.problems):
            _commit(store, key, whole)
    if in_memory:
        _remember(model, key, whole)


def _remember(model: Model, key: str, shard: Block) -> None:
    cached = [block for shards in _in_memory.values() for block in shards.values()]
    if sum(block.pixels.nbytes for block in [*cached, shard]) > MEMORY_BYTES:
        _in_memory.clear()
    _in_memory.setdefault(model.module, {})[key] = shard


def _commit(store: Store, key: str, shard: Block) -> None:
    try:
        store.commit(KIND, key, {"scale": min(shard.scales)}, {"pixels": shard.pixels})
    except UserError as error:  # The cache is optional: no result depends on it.
        log.warning("Pixels are decoded again next time: %s", error)


def _fits(store: Store, count: int, one: int) -> bool:
    if 0 < store.pixel_bytes < count * one:
        _log_once(f"Not keeping the pixels of {count} images: they take {count * one / 2**30:.1f} "
                  "GiB, more than store.pixels_gib.")
    return count * one <= store.pixel_bytes


@cache
def _log_once(line: str) -> None:
    log.info(line)


def _looked_up(levels: Tensor, scale: int) -> Tensor:
    # The table is computed on the CPU: a GPU rounds the division differently.
    table = SCALES[scale].to(levels.device)
    return table.index_select(0, levels.flatten().int()).view(levels.shape)
