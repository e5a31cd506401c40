"""Features that the untrained model computes once for all fine-tunings of a process.

The prompts of known classes and the rehearsal images are the same for every concept. The images of
a concept are the same at every learning rate of a sweep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


class FeatureCache:
    """Features of one model at a time, by the key of what they were computed from."""

    def __init__(self) -> None:
        self._owner: Hashable = None
        self._features: dict[Hashable, Any] = {}

    def of(self, owner: Hashable) -> FeatureCache:
        """Return the cache of a model (fingerprint and device); drop that of another model."""
        if owner != self._owner:
            self._owner, self._features = owner, {}
        return self

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what is under `key`; compute it on first use."""
        if key not in self._features:
            self._features[key] = compute()
        return self._features[key]


def content(values: Tensor) -> str:
    """Return a hash of a tensor's values, for use as a key."""
    return hashlib.blake2b(values.detach().cpu().contiguous().numpy().data).hexdigest()
