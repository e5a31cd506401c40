"""Rare concepts beside the 1000 classes of ImageNet (`benchmark=rare_imagenet`; paper C.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

from kt_exp.benchmarks.classification.benchmark import ClassificationTask
from kt_exp.benchmarks.classification.prompts import template_problems
from kt_exp.concepts import Concept
from kt_exp.config.checks import choice, number
from kt_exp.data import imagenet
from kt_exp.data.image_files import ImageFiles, first_per_class
from kt_exp.data.targets import check_targets, read_target, refuse_known
from kt_exp.errors import did_you_mean
from kt_exp.unicode import user_path


@dataclass(kw_only=True)
class RareImageNet(ClassificationTask):
    """Target folders, and ImageNet-1k images from a `val/` folder or a labels CSV.

    All 1000 classes are candidates, also those without images.
    """

    target_root: str
    imagenet_root: str | None
    labels_csv: str | None
    calibration_root: str | None
    images_per_known_class: int = number(minimum=0)
    names: str = choice("openai", "wordnet", "file")
    names_file: Optional[str]
    templates: Any
    fix_articles: bool
    batch_size: int = number(minimum=1, maximum=100_000)
    workers: int = number(minimum=0, maximum=1024)
    on_bad_image: str = choice("error", "skip")

    def __post_init__(self) -> None:
        if isinstance(self.templates, str) and self.templates in imagenet.TEMPLATES:
            self.templates = imagenet.templates(self.templates)

    def problems(self) -> Iterator[tuple[str, str, str]]:
        if bool(self.imagenet_root) == bool(self.labels_csv):
            given = "both are given" if self.labels_csv else "no images of the known classes"
            yield ("imagenet_root", given, "give benchmark.imagenet_root (holds val/<wnid>/*) or "
                   "benchmark.labels_csv (columns file, class_index or wnid)")
        if isinstance(self.templates, list):
            yield from template_problems(self.templates)
        else:
            yield ("templates", f"'{self.templates}' is not an option",
                   f"{did_you_mean(str(self.templates), imagenet.TEMPLATES)}, or a list of "
                   "templates with {} for the name")
        if self.names == "file" and not self.names_file:
            yield ("names_file", "missing, but benchmark.names is 'file'",
                   "give a text file of 1000 names, a line each")

    def known_names(self) -> list[str]:
        return list(self._names)

    def known_images(self) -> ImageFiles:
        return first_per_class(self._known(), self.images_per_known_class)

    def target_images(self, concept: Concept) -> ImageFiles:
        return read_target(user_path(self.target_root), concept)

    def calibration_images(self) -> ImageFiles | None:
        if self.calibration_root is None:
            return None
        root = user_path(self.calibration_root)
        return imagenet.read_val(root, imagenet.wnids(), "benchmark.calibration_root")

    def check_concepts(self, concepts: Sequence[Concept]) -> None:
        refuse_known(concepts, self.known_names(), "ImageNet has it already: choose another with "
                     "concepts.only")
        check_targets(user_path(self.target_root), concepts)
        self._known()

    @cached_property
    def _names(self) -> list[str]:
        if self.names == "file":
            path = user_path(self.names_file)
            return imagenet.names_from(path, "benchmark.names_file")
        return imagenet.wordnet_names() if self.names == "wordnet" else imagenet.class_names()

    def _known(self) -> ImageFiles:
        ids = imagenet.wnids()
        if self.labels_csv:
            path = user_path(self.labels_csv)
            return imagenet.read_labels_csv(path, ids, "benchmark.labels_csv")
        root = user_path(self.imagenet_root)
        return imagenet.read_val(root, ids, "benchmark.imagenet_root")
