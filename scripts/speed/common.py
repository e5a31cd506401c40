"""What the rows share: what is measured, noise to measure it on, and the floor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kt_exp.inversion.settings import InversionSettings
from kt_exp.models.factory import ModelCache
from kt_exp.models.protocol import DualEncoder, Model, PatchEncoder, TransformerTrunk
from kt_exp.schema import Config
from speed.measure import Clock, Products

CAPTION = "a round thing with two narrow parts"
PRODUCTS = "products"


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    config: Config
    model: DualEncoder
    clock: Clock
    repeats: int
    images: int
    steps: int

    def settings(self, **speed: Any) -> InversionSettings:
        """Return the config's inversion, but for the number of steps and for `speed`."""
        chosen = replace(self.config.inversion, steps=self.steps, sizes=[], upsize_at=[],
                         checkpoint_seconds=1e9)
        return replace(chosen, speed=replace(chosen.speed, **speed))


def noise(bench: Bench, count: int) -> Tensor:
    size = bench.model.image_size
    return torch.rand(count, 3, size, size, device=bench.model.device)


def products_of(bench: Bench) -> Products:
    """Products in the shape of a ViT's widest layer, for all images at once, or else large square
    ones."""
    rows, columns, inner = 1024, 1024, 1024
    if isinstance(bench.model, PatchEncoder) and isinstance(bench.model, TransformerTrunk):
        rows = bench.images * (bench.model.patch_tower().grid**2 + 1)
        layer: Any = bench.model.trunk_layers[0]
        columns, inner = layer.mlp.c_fc.weight.shape
    return Products.of_shape(bench.clock, rows, inner, columns,
                             bench.config.precision == "bf16")

class Loaded(ModelCache):
    """Hands out a model that is loaded already."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model

    def load(self, spec: object, device: torch.device, precision: str) -> Model:
        return self._model
