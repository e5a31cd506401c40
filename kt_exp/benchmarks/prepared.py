"""Image sets whose images are already preprocessed, such as inverted ones."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image


@dataclass(frozen=True)
class PreparedImages:
    """Labelled images as tensors at a model's own size: an `ImageSet` that is not preprocessed.

    Attributes:
        pixels: `(N, 3, H, W)`, as the model takes them.
        labels: class index of each image.
        key: hash of what the images were made from.
    """

    pixels: Tensor
    labels: list[int]
    key: str

    def __len__(self) -> int:
        return len(self.pixels)

    def open(self, index: int) -> Image.Image:
        """Return image `index` in RGB, with values clamped to [0, 1]."""
        return to_pil_image(self.pixels[index].clamp(0, 1).cpu())

    def fingerprint(self) -> str:
        """Return `key`."""
        return self.key
