"""Settings of M2IB and of its tuning (conf/benchmark/segmentation.yaml)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from kt_exp.config.checks import number


@dataclass(kw_only=True)
class M2IBSettings:
    """The information bottleneck: its layer, its weight β, its noise and its optimisation."""

    layer: int = number(minimum=0)
    beta: float = number(minimum=0)
    var: float = number(above=0)
    alpha: float
    lr: float = number(above=0)
    steps: int = number(minimum=1)
    draws: int = number(minimum=1)
    seed: int = number(minimum=0)


@dataclass(kw_only=True)
class TuneSettings:
    """The grid over layer × β × variance, and the threshold at which maps are compared."""

    root: Optional[str]
    layers: list[int] = number(minimum=0)
    betas: list[float] = number(minimum=0)
    variances: list[float] = number(above=0)
    threshold: float = number(minimum=0, maximum=1)

    def problems(self) -> Iterator[tuple[str, str, str]]:
        for key in ("layers", "betas", "variances"):
            if not getattr(self, key):
                yield key, "empty", "give at least one value"
