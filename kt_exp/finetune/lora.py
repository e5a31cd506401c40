"""LoRA: low-rank adapters of linear maps, by peft, merged into ordinary weights.

Hu et al. 2022 (arXiv 2106.09685): W + α/r · B A with A `(r, F)`, B `(D, r)`; only A and B are
trained. A starts random and B at zero, so training starts from the model as it is.

peft puts adapters around modules. That would miss weights that are used without a module's forward
pass: open_clip's projections, the attention pool of its ResNets, nn.MultiheadAttention. So peft
adapts a Linear that stands for each map, and the module that holds the map uses W + α/r · B A in
place of W while the adapters are trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kt_exp.errors import UserError
from kt_exp.finetune.settings import LoraSettings
from kt_exp.models.linear_maps import LinearMap

if TYPE_CHECKING:
    from peft.tuners.lora import Linear as LoraLinear

_ADAPTER = "default"  # the name under which peft keeps an adapter if it is given none


def check_peft() -> None:
    """Check that peft is installed.

    Raises:
        UserError: it is not.
    """
    if find_spec("peft") is None:
        raise UserError("finetune.lora.rank", "LoRA needs the package peft, which is not installed",
                        "pip install 'kt_exp[lora]', or set it to 0")


class Adapter(nn.Module):
    """The low-rank change of one map, which torch adds to the map's weight."""

    def __init__(self, place: LinearMap, layer: LoraLinear) -> None:
        super().__init__()
        self._place, self._layer = place, layer

    @property
    def down(self) -> nn.Parameter:
        """A `(r, F)`, which reads the map's inputs."""
        return cast(nn.Parameter, self._layer.lora_A[_ADAPTER].weight)

    @property
    def up(self) -> nn.Parameter:
        """B `(D, r)`."""
        return cast(nn.Parameter, self._layer.lora_B[_ADAPTER].weight)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self._place.oriented(self._layer.get_delta_weight(_ADAPTER))


@contextmanager
def adapted(maps: Sequence[LinearMap], settings: LoraSettings) -> Iterator[list[Adapter]]:
    """Give each map a trainable adapter within the block; then merge it into the map's weight.

    The maps' own weights must be frozen, and stay as they are until the adapters are merged. A is
    drawn from torch's global random state.
    """
    layers = _layers(maps, settings)
    adapters = [Adapter(place, layer) for place, layer in zip(maps, layers, strict=True)]
    for place, adapter in zip(maps, adapters, strict=True):
        parametrize.register_parametrization(place.module, place.attribute, adapter)
    try:
        yield adapters
    finally:
        for place in maps:
            _merge(place)


def _layers(maps: Sequence[LinearMap], settings: LoraSettings) -> list[LoraLinear]:
    from peft import LoraConfig, inject_adapter_in_model  # slow to import

    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha,  # type: ignore[arg-type]
                        target_modules=r"\d+")
    wrapped = inject_adapter_in_model(config, nn.ModuleList(map(_stand_in, maps)))
    return list(wrapped.children())  # type: ignore[arg-type]


def _stand_in(place: LinearMap) -> nn.Linear:
    """Return a Linear with the map's weight; it shares the memory."""
    weight = place.oriented(place.weight.detach())
    linear = nn.Linear(1, 1, bias=False)
    linear.out_features, linear.in_features = weight.shape
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear


@torch.no_grad()
def _merge(place: LinearMap) -> None:
    merged = place.weight.clone()
    parametrize.remove_parametrizations(place.module, place.attribute, leave_parametrized=False)
    place.weight.copy_(merged)
