"""Known classes of which two share a name, as in ImageNet: named by `_target_`."""

from __future__ import annotations

from dataclasses import dataclass

from kt_exp.pictograms.benchmark import PictogramBenchmark


@dataclass(kw_only=True)
class SharedNames(PictogramBenchmark):
    def known_names(self) -> list[str]:
        names = super().known_names()
        return [names[0], names[0], *names[2:]]
