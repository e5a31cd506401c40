"""Typed settings of the inversion stage (conf/inversion/*.yaml)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from kt_exp.config.checks import choice, number

_LAYERS = re.compile(r"projection|last_[1-9]\d*")


@dataclass(kw_only=True)
class AffineSettings:
    """Random affine augmentation, drawn anew at each step (paper C.1)."""

    probability: float = number(minimum=0, maximum=1)
    degrees: float = number(minimum=0, maximum=180)
    translate: float = number(minimum=0, maximum=1)
    scale: list[float] = number(above=0)
    padding: str = choice("zeros", "border", "reflection")
    per_sample: bool

    def problems(self) -> Iterator[tuple[str, str, str]]:
        if len(self.scale) != 2 or self.scale[0] > self.scale[1]:
            yield "scale", f"{self.scale} is not a range", "give [smallest, largest]"


@dataclass(kw_only=True)
class SpeedSettings:
    """Cheaper ways to score the images than by the full model."""

    tower: str = choice("model", "lean")
    bf16: bool
    native_size: bool
    patch_dropout: float = number(minimum=0, maximum=0.95)
    compile: bool

    def problems(self) -> Iterator[tuple[str, str, str]]:
        for key in ("bf16", "native_size", "patch_dropout"):
            if getattr(self, key) and self.tower != "lean":
                yield key, "is for the lean tower", "add inversion.speed.tower=lean"


@dataclass(kw_only=True)
class InversionSettings:
    """Everything that affects the inverted images or features, and how images are saved.

    The stage takes `upsize_at` in steps (`in_steps`); in a config, values below 1 are shares.
    """

    model: Any  # a plug-in of the group `model`, or None for the model that is taught
    layers: str
    feature_prior: str = choice("mahalanobis", "channel")
    feature_weight: float = number(minimum=0)
    statistics: str = choice("known", "prompts", "folder", "file")
    statistics_path: Optional[str]
    images: int = number(minimum=0, maximum=100_000)
    steps: int = number(minimum=1)
    init: str = choice("uniform", "normal")
    sizes: list[int] = number(minimum=8, maximum=8192)
    upsize_at: list[Any] = number(above=0)  # steps, and shares of the run below 1
    restart_optimizer: bool
    lr: float = number(above=0)
    lr_schedule: str = choice("constant", "cosine")
    lr_period: Any = number(minimum=1, words=("run", "stage"), whole=True)
    distance: str = choice("cosine", "l2", "l2_unnormalized", "match")
    tv_form: str = choice("norm", "anisotropic")
    tv_weight: float = number(minimum=0)
    affine: AffineSettings
    grad_clip: str = choice("none", "image", "batch")
    grad_clip_norm: float = number(above=0)
    clamp: str = choice("none", "before_step", "after_step")
    png: str = choice("clamp", "stretch")
    speed: SpeedSettings
    chunk_size: Any = number(minimum=1, words=("auto",), whole=True)
    checkpoint_seconds: float = number(above=0)

    def problems(self) -> Iterator[tuple[str, str, str]]:
        if self.layers != "all":
            yield from self._feature_problems()
        if self.sizes and len(self.upsize_at) != len(self.sizes) - 1:
            yield ("upsize_at", f"{len(self.upsize_at)} steps for {len(self.sizes)} sizes",
                   f"give {len(self.sizes) - 1}: one step for each change of size")
        if not self.sizes and self.upsize_at:
            yield "upsize_at", "steps without sizes", "give inversion.sizes, or leave it empty"
        if sorted(self.sizes) != self.sizes:
            yield "sizes", f"{self.sizes} does not grow", "order the sizes from small to large"
        if sorted(set(self.upsize_at)) != self.upsize_at:
            yield "upsize_at", f"{self.upsize_at} does not grow", "order the steps"
        for at in self.upsize_at:
            if at >= 1 and at != int(at):
                yield "upsize_at", f"{at} is no step", "give whole numbers, or shares below 1"
        if self.upsize_at and self.upsize_at[-1] >= max(self.steps, 1):
            yield ("upsize_at", f"step {self.upsize_at[-1]:g} is never reached",
                   f"inversion.steps is {self.steps}: give smaller steps, or shares of them (0.4)")

    def _feature_problems(self) -> Iterator[tuple[str, str, str]]:
        if not _LAYERS.fullmatch(self.layers):
            yield "layers", f"'{self.layers}' is not an option", \
                "choose all, projection, or last_K with a whole number K such as last_2"
        if self.statistics in ("folder", "file") and not self.statistics_path:
            yield "statistics_path", f"missing, but inversion.statistics is '{self.statistics}'", \
                "give the folder of images, or the file that a run wrote"

    def in_steps(self) -> InversionSettings:
        """Return the same settings with `upsize_at` in steps, none of them a share."""
        return replace(self, upsize_at=in_steps(self.upsize_at, self.steps))


def in_steps(upsize_at: Sequence[float], steps: int) -> list[int]:
    """Return the steps at which the next size begins, from 0; shares of `steps` are rounded.

    In runs of few steps, sizes may be left out: two of them may begin at the same step.
    """
    return [round(at * steps) if at < 1 else int(at) for at in upsize_at]
