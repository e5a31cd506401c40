"""A `to_tensor` with a signature, so that its output can be kept in the store."""

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
        decides: plain values for everything that can change the output of `transform`, a version of
            its code included. The versions of Pillow, libjpeg and torchvision are added.
    """

    def __init__(self, transform: Callable[[Image.Image], Tensor], *decides: object) -> None:
        self._transform = transform
        self.signature = signature([*decides, PIL.__version__, features.version("jpg"),
                                    torchvision.__version__])

    def __call__(self, image: Image.Image) -> Tensor:
        return self._transform(image)
