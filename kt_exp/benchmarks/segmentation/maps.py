"""Saliency maps and masks of an image set, computed and stored in chunks."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kt_exp.benchmarks.segmentation.m2ib import saliency
from kt_exp.benchmarks.segmentation.masks import MaskedImages
from kt_exp.benchmarks.segmentation.postprocess import (
    Mask,
    boxes,
    coarse_mask,
    largest_components,
)
from kt_exp.benchmarks.segmentation.sam import Sam
from kt_exp.benchmarks.segmentation.settings import M2IBSettings
from kt_exp.models.protocol import TransformerTrunk
from kt_exp.progress import Bar, Progress
from kt_exp.store import Entry, Store, signature

VERSION = 1
SALIENCY, MASKS = "saliency", "masks"
CHUNK = 64  # images per store entry: the most that a killed run loses

Make = Callable[[int, MaskedImages, Bar], dict[str, Tensor]]


@dataclass(frozen=True)
class Segmenter:
    """Segments images by the saliency of a text in them.

    Attributes:
        weights: signature of the model's architecture, current weights and device.
        text: the text that M2IB looks for.
        sam: turns the coarse mask's boxes into a mask; None: the coarse mask is the result.
        components: number of largest connected components that are kept of a mask.
        batch_size: images per batch of M2IB; does not change results.
    """

    model: TransformerTrunk
    weights: str
    text: str
    sam: Sam | None
    components: int
    batch_size: int
    store: Store
    progress: Progress

    def maps(self, images: MaskedImages, settings: M2IBSettings, of: str) -> list[Tensor]:
        """Return the saliency map of each image, one value per patch `(G, G)`, on the CPU."""
        def make(start: int, chunk: MaskedImages, bar: Bar) -> dict[str, Tensor]:
            batches = [self._saliency(chunk[at : at + self.batch_size], settings, bar)
                       for at in range(0, len(chunk), self.batch_size)]
            return {"maps": torch.cat(batches)}

        entries = self._stored(SALIENCY, self.map_keys(images, settings), images, make,
                               f"Saliency of {of}")
        return [grid for entry in entries for grid in entry.tensors["maps"]]

    def masks(self, images: MaskedImages, settings: M2IBSettings, of: str) -> list[str]:
        """Segment the images; return the keys of the store entries with their masks, in order."""
        maps = self.maps(images, settings, of)

        def make(start: int, chunk: MaskedImages, bar: Bar) -> dict[str, Tensor]:
            masks = {}
            for index in range(len(chunk)):
                mask = self._segment(chunk.open(index), maps[start + index])
                masks[str(index)] = packed(mask)
                bar.advance()
            return masks

        sam = self.sam and self.sam.fingerprint
        keys = [signature([VERSION, key, self.components, sam])
                for key in self.map_keys(images, settings)]
        self._stored(MASKS, keys, images, make, f"Masks of {of}")
        return keys

    def _saliency(self, images: MaskedImages, settings: M2IBSettings, bar: Bar) -> Tensor:
        pixels = torch.stack([self._pixels(images.open(index)) for index in range(len(images))])
        maps = saliency(self.model, pixels.to(self.model.device), self._embedding, settings)
        bar.advance(len(images))
        return maps.cpu()

    def _pixels(self, image: Image.Image) -> Tensor:
        """Resize the image to the model's square without cropping, so that the map covers it."""
        side = self.model.image_size
        return self.model.to_tensor(image.resize((side, side), Image.Resampling.BICUBIC))

    def _segment(self, image: Image.Image, grid: Tensor) -> Mask:
        coarse = coarse_mask(grid, image.height, image.width, self.components)
        if self.sam is None or not coarse.any():
            return coarse
        return largest_components(self.sam.segment(image, boxes(coarse)), self.components)

    @cached_property
    def _embedding(self) -> Tensor:
        with torch.no_grad():
            return self.model.encode_text([self.text])[0]

    def map_keys(self, images: MaskedImages, settings: M2IBSettings) -> list[str]:
        """Return the keys of the store entries with the images' saliency maps, in order."""
        return [signature([VERSION, self.weights, self.text, asdict(settings),
                           images[at : at + CHUNK].image_files.fingerprint()])
                for at in range(0, len(images), CHUNK)]

    def _stored(self, kind: str, keys: list[str], images: MaskedImages, make: Make,
                description: str) -> list[Entry]:
        entries = []
        with self.progress(description, len(images)) as bar:
            for start, key in zip(range(0, len(images), CHUNK), keys, strict=True):
                chunk = images[start : start + CHUNK]
                entry = self.store.get_or_compute(
                    kind, key, lambda: Entry({}, make(start, chunk, bar)))  # noqa: B023
                if entry.found:
                    bar.advance(len(chunk))
                entries.append(entry)
        return entries


def masks_in(store: Store, keys: Sequence[str]) -> Iterator[Mask]:
    """Yield the masks of the store entries `keys`, which must exist, in order."""
    for key in keys:
        entry = store.fetch(MASKS, key)
        assert entry is not None
        for index in range(len(entry.tensors)):
            yield unpacked(entry.tensors[str(index)])


def mask_at(store: Store, keys: Sequence[str], index: int) -> Mask | None:
    """Return mask `index` of the store entries `keys`; None if the store lost it."""
    entry = store.fetch(MASKS, keys[index // CHUNK])
    return unpacked(entry.tensors[str(index % CHUNK)]) if entry else None


def map_at(store: Store, keys: Sequence[str], index: int) -> Tensor | None:
    """Return saliency map `index`, `(G, G)`, of the entries `keys`; None if the store lost it."""
    entry = store.fetch(SALIENCY, keys[index // CHUNK])
    return entry.tensors["maps"][index % CHUNK] if entry else None


def packed(mask: Mask) -> Tensor:
    """Return a mask `(H, W)` as the bytes of a 1-bit PNG, uint8: a few hundred bytes."""
    written = io.BytesIO()
    Image.fromarray(mask).save(written, "PNG")
    return torch.frombuffer(bytearray(written.getvalue()), dtype=torch.uint8)


def unpacked(png: Tensor) -> Mask:
    """Return the mask `(H, W)` from the bytes that `packed` made."""
    with Image.open(io.BytesIO(png.numpy().tobytes())) as image:
        return np.asarray(image.convert("1"))
