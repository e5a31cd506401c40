"""Images as a model sees them, decoded once: kept in memory for the other jobs of the process, and
in the store for other processes, as bytes where that loses nothing.

They come before anything that fine-tuning changes, so all models of a sweep share them.
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
VERSION = 1  # of how images are opened and kept; what a model does to them has its own signature
MEMORY_BYTES = 2**30  # of the largest image set that is kept in memory, and of all together
SHARD_BYTES = 2**26  # of an entry of the store: what a killed run decodes again at most

# The numbers in [0, 1] that transforms make of bytes: torchvision's ToTensor, and its v2.ToDtype.
# Half of them differ by rounding.
SCALES = (torch.arange(256).float() / 255, torch.arange(256).float() * (1 / 255))

Problem = tuple[str, str, str]  # the arguments of the UserError

_in_memory: WeakKeyDictionary[nn.Module, dict[str, Block]] = WeakKeyDictionary()


class Block(NamedTuple):
    """Consecutive images of a set.

    Attributes:
        pixels: `(B, 3, S, S)`, uint8 or fp32; zeros where an image cannot be read.
        scales: which of `SCALES` turn the bytes into the model's numbers; empty for fp32.
        problems: what is wrong with each image, None for one that can be read.
    """

    pixels: Tensor
    scales: frozenset[int]
    problems: list[Problem | None]

    def part(self, begin: int, end: int | None = None) -> Block:
        """Return the images at positions `begin` to `end`."""
        return Block(self.pixels[begin:end], self.scales, self.problems[begin:end])

    def on(self, device: torch.device | str) -> Tensor:
        """Return the pixels in fp32 on `device`, bit for bit as the model made them."""
        moved = self.pixels.to(device, non_blocking=True)
        return _looked_up(moved, min(self.scales)) if self.scales else moved


def as_bytes(pixels: Tensor) -> Block:
    """Return images `(B, 3, S, S)` as bytes if that loses nothing, else as they are."""
    pixels = pixels.contiguous()  # as the store keeps them: networks round by the memory layout
    levels = (pixels * 255).round_().to(torch.uint8)
    scales = frozenset(scale for scale in range(len(SCALES))
                       if torch.equal(_looked_up(levels, scale), pixels))
    return Block(levels if scales else pixels, scales, [None] * len(pixels))


def joined(blocks: Sequence[Block]) -> Block:
    """Return consecutive blocks (at least one) as one."""
    scales = frozenset.intersection(*(block.scales for block in blocks))
    pixels = torch.cat([block.pixels if scales else block.on("cpu") for block in blocks])
    return Block(pixels, scales, [problem for block in blocks for problem in block.problems])


def regrouped(blocks: Iterable[Block], size: int) -> Iterator[Block]:
    """Yield the same images in blocks of `size`, the last one shorter."""
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

    The store keeps readable images as bytes, of models whose `to_tensor` is signed. Its entries are
    mapped into memory one at a time.
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
    """Forget the images in memory, as a new process does."""
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
    kept = [block for shards in _in_memory.values() for block in shards.values()]
    if sum(block.pixels.nbytes for block in [*kept, shard]) > MEMORY_BYTES:
        _in_memory.clear()
    _in_memory.setdefault(model.module, {})[key] = shard


def _commit(store: Store, key: str, shard: Block) -> None:
    try:
        store.commit(KIND, key, {"scale": min(shard.scales)}, {"pixels": shard.pixels})
    except UserError as error:  # No result depends on it.
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
    # A table made on the CPU: a GPU would round the division differently.
    table = SCALES[scale].to(levels.device)
    return table.index_select(0, levels.flatten().int()).view(levels.shape)
