"""Features that the untrained model computes once for all fine-tunings of a process.

The prompts of known classes and the rehearsal images are the same for every concept. The images of
a concept are the same at every learning rate of a sweep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable

from torch import Tensor


class FeatureCache:
    """Tensors by what they were computed from, of one model at a time."""

    def __init__(self) -> None:
        self._owner: Hashable = None
        self._kept: dict[Hashable, Tensor] = {}

    def of(self, owner: Hashable) -> FeatureCache:
        """Return the cache of a model (fingerprint and device); drop that of another model."""
        if owner != self._owner:
            self._owner, self._kept = owner, {}
        return self

    def get(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Return the tensor kept under `key`; the first time it is computed."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


def content(values: Tensor) -> str:
    """Return a hash of a tensor's values, which stands for them as a key."""
    return hashlib.blake2b(values.detach().cpu().contiguous().numpy().data).hexdigest()
