"""What a model makes of texts and images before it is taught, computed once for all lessons.

Known classes' prompts and the images of rehearsal are the same for every concept, and all of a
concept's images are the same at every learning rate of a sweep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable

from torch import Tensor


class Memo:
    """Tensors by what they were computed from; those of one model at a time."""

    def __init__(self) -> None:
        self._owner: str | None = None
        self._kept: dict[Hashable, Tensor] = {}

    def of(self, fingerprint: str) -> Memo:
        """Return the memo of the model with that fingerprint; another model's is forgotten."""
        if fingerprint != self._owner:
            self._owner, self._kept = fingerprint, {}
        return self

    def get(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Return what `compute` gave the first time that it was asked for under `key`."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


def content(images: Tensor) -> str:
    """Return a hash of the values of images, which stands for them as a key."""
    return hashlib.blake2b(images.detach().cpu().contiguous().numpy().data).hexdigest()
