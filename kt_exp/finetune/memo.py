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
        self._owner: Hashable = None
        self._kept: dict[Hashable, Tensor] = {}

    def of(self, owner: Hashable) -> Memo:
        """Return the memo of a model, by its fingerprint and device; another one's is forgotten."""
        if owner != self._owner:
            self._owner, self._kept = owner, {}
        return self

    def get(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Return what `compute` gave the first time that it was asked for under `key`."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


def content(values: Tensor) -> str:
    """Return a hash of a tensor's values, which stands for them as a key."""
    return hashlib.blake2b(values.detach().cpu().contiguous().numpy().data).hexdigest()
