"""Image sets of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from kt_exp.benchmarks.protocol import ImageSet


@dataclass
class CountedImages:
    """An image set that counts how often an image is opened (in this process)."""

    images: ImageSet
    opened: int = 0

    @property
    def labels(self) -> list[int]:
        return self.images.labels

    def __len__(self) -> int:
        return len(self.images)

    def open(self, index: int) -> Image.Image:
        self.opened += 1
        return self.images.open(index)

    def fingerprint(self) -> str:
        return self.images.fingerprint()


@dataclass
class NoisePictures:
    """Pictures of noise, `count` of `side` pixels."""

    count: int
    side: int
    labels: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.labels = list(range(self.count))

    def __len__(self) -> int:
        return self.count

    def open(self, index: int) -> Image.Image:
        pixels = np.random.default_rng(index).integers(256, size=(self.side, self.side, 3))
        return Image.fromarray(pixels.astype(np.uint8))

    def fingerprint(self) -> str:
        return f"noise {self.count} {self.side}"
