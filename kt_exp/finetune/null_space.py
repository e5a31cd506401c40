"""Updates that leave a map's outputs on known features as they are.

Wang et al., CVPR 2021, "Training Networks in Null Space of Feature Covariance for Continual
Learning": an update of a linear map changes nothing for features x if it lies in the null space of
their uncentred covariance Σ x xᵀ. As few covariances have one, the complement of the leading
eigenvectors is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kt_exp.finetune.feature_cache import FeatureCache, content
from kt_exp.models.linear_maps import LinearMap
from kt_exp.models.protocol import DualEncoder

_CHUNK = 64
_aten = torch.ops.aten
_PRODUCTS = (_aten.mm.default, _aten.addmm.default, _aten.bmm.default)


def protected_directions(model: DualEncoder, maps: Sequence[LinearMap], images: Tensor,
                         prompts: Sequence[str], share: float,
                         features: FeatureCache) -> dict[str, Tensor]:
    """Return the directions of each map's inputs that updates must not touch.

    Args:
        images: `(M, 3, H, W)` of known classes, which give the inputs in the image encoder.
        prompts: of known classes, which give those in the text encoder.
        share: of the inputs' energy, the trace of their second moment, that is protected.
        features: cache of the model, which must be in its state before training.

    Returns orthonormal columns `(F, K)` by the name of the map, in the weight's dtype. Maps that
    these images and prompts do not reach are left out.
    """
    def compute() -> dict[str, Tensor]:
        moments = second_moments(model, maps, images, prompts)
        return {place.name: leading_directions(moments[place.name], share).to(place.weight.dtype)
                for place in maps if place.name in moments}

    key = ("protected", share, tuple(place.name for place in maps), content(images), *prompts)
    return features.get(key, compute)


def second_moments(model: DualEncoder, maps: Sequence[LinearMap], images: Tensor,
                   prompts: Sequence[str]) -> dict[str, Tensor]:
    """Return Σ x xᵀ of the inputs x that each map gets while images and prompts are encoded.

    Returns `(F, F)` in float64 by the name of the map; maps that get none are left out.
    """
    products = _Products({_memory(place.weight): place.name for place in maps})
    with torch.no_grad(), _attention_step_by_step(), products:
        for chunk in images.split(_CHUNK):
            model.encode_image(chunk)
        if prompts:
            model.encode_text(prompts)
    return products.moments


def leading_directions(moment: Tensor, share: float) -> Tensor:
    """Return the fewest eigenvectors of Σ x xᵀ `(F, F)` that hold `share` of its trace.

    Returns orthonormal columns `(F, K)`; K = 0 if all inputs were zero.
    """
    ascending, vectors = torch.linalg.eigh(moment)
    energy = ascending.flip(0).clamp(min=0)
    return vectors.flip(1)[:, energy.cumsum(0) - energy < share * energy.sum()]


def without(directions: Tensor, rows: Tensor) -> Tensor:
    """Return `rows` `(…, F)` without their parts along orthonormal `directions` `(F, K)`."""
    return rows - (rows @ directions) @ directions.T


class _Products(TorchDispatchMode):
    """Sums up the second moments of all that is multiplied with certain weights.

    This meets the inputs of a weight in whatever way the model's code writes the product. A weight
    is known by its memory, also under autocast, and if only a part of it takes part.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names, self.moments = dict(names), dict[str, Tensor]()
        self._copies: list[Tensor] = []  # kept, so that their memory is not used again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is _aten._to_copy.default and (name := self._names.get(_memory(args[0]))):
            self._names[_memory(result)] = name
            self._copies.append(result)
        elif func in _PRODUCTS:
            self._note(*args[-2:])
        return result

    def _note(self, inputs: Tensor, weight: Tensor) -> None:
        if name := self._names.get(_memory(weight)):
            exact = inputs.flatten(0, -2).float()
            self.moments[name] = self.moments.get(name, 0) + (exact.T @ exact).double()


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def _attention_step_by_step() -> Iterator[None]:
    """Keep nn.MultiheadAttention from computing everything in one operation."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)

