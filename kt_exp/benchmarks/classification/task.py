"""What an evaluator of zero-shot classification needs of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kt_exp.benchmarks.embedding import LoaderSettings
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.concepts import Concept
from kt_exp.results.outcome import Phase


@dataclass(frozen=True)
class ZeroShotTask:
    """Images, classes and prompts of a classification task.

    Attributes:
        templates: prompt templates with `{}` for the class name.
        known_names: of the K known classes.
        known_prompts: of each known class, at least one.
        known_images: labelled by index into `known_names`.
        target_images: returns the real images of a concept.
        target_prompts: returns the prompts of a concept in a phase.
        loader: settings for loading images.
        calibration_images: of known classes, labelled as `known_images`, not reported on; or None.
    """

    templates: list[str]
    known_names: list[str]
    known_prompts: list[list[str]]
    known_images: ImageSet
    target_images: Callable[[Concept], ImageSet]
    target_prompts: Callable[[Concept, Phase], list[str]]
    loader: LoaderSettings
    calibration_images: ImageSet | None
