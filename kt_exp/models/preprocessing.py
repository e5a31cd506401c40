"""A model's `to_tensor` that says what it does: such pixels may be shared through the store."""

from __future__ import annotations

from collections.abc import Callable

import PIL
import torchvision
from PIL import Image, features
from torch import Tensor

from kt_exp.store import signature


class Preprocessing:
    """Makes tensors of images: `models.protocol.SignedTransform`.

    Args:
        transform: PIL image → `(3, S, S)` in [0, 1].
        decides: all that can change what `transform` makes of an image, as plain values, its own
            code included; what decodes and resizes (Pillow, libjpeg, torchvision) is added.
    """

    def __init__(self, transform: Callable[[Image.Image], Tensor], *decides: object) -> None:
        self._transform = transform
        self.signature = signature([*decides, PIL.__version__, features.version("jpg"),
                                    torchvision.__version__])

    def __call__(self, image: Image.Image) -> Tensor:
        return self._transform(image)
