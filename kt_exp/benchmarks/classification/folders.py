"""Benchmark on your own image folders (`benchmark=folders`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from kt_exp.benchmarks.classification.benchmark import ClassificationTask
from kt_exp.benchmarks.classification.prompts import template_problems
from kt_exp.concepts import Concept
from kt_exp.config.checks import choice, number
from kt_exp.data.image_files import (
    ClassFolder,
    ImageFiles,
    class_folders,
    labelled,
    require_images,
)
from kt_exp.data.known import read_known
from kt_exp.data.targets import check_targets, read_target, refuse_known
from kt_exp.errors import UserError
from kt_exp.unicode import user_path

WHERE = "benchmark.known_root"


@dataclass(kw_only=True)
class FolderBenchmark(ClassificationTask):
    """Known classes and new concepts, each in a sub-folder with its name."""

    target_root: str
    known_root: str
    calibration_root: Optional[str]
    images_per_known_class: int = number(minimum=0)
    templates: list[str]
    fix_articles: bool
    batch_size: int = number(minimum=1, maximum=100_000)
    workers: int = number(minimum=0, maximum=1024)
    on_bad_image: str = choice("error", "skip")

    def problems(self) -> Iterator[tuple[str, str, str]]:
        yield from template_problems(self.templates)

    def known_names(self) -> list[str]:
        return [folder.name for folder in self._known()]

    def known_images(self) -> ImageFiles:
        limit = self.images_per_known_class
        return labelled(user_path(self.known_root),
                        [folder.images(limit) for folder in self._known()])

    def target_images(self, concept: Concept) -> ImageFiles:
        return read_target(user_path(self.target_root), concept)

    def calibration_images(self) -> ImageFiles | None:
        return read_known(self.calibration_root, self.known_names())

    def check_concepts(self, concepts: Sequence[Concept]) -> None:
        known = self._known()
        if len(known) < 2:
            raise UserError(WHERE, f"'{known[0].name}' is the only class in {self.known_root}",
                            "give at least two: one sub-folder per known class")
        require_images(known, WHERE)
        names = [folder.name for folder in known]
        refuse_known(concepts, names, "take its folder out of benchmark.known_root")
        check_targets(user_path(self.target_root), concepts)

    def _known(self) -> list[ClassFolder]:
        return class_folders(user_path(self.known_root), WHERE)
