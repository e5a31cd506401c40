"""Photos with ImageNet labels beside new concepts (`benchmark=photos`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Optional

from kt_exp.benchmarks.classification.benchmark import ClassificationTask
from kt_exp.benchmarks.classification.prompts import template_problems
from kt_exp.concepts import Concept, name_key
from kt_exp.config.checks import choice, number
from kt_exp.data import imagenet
from kt_exp.data.image_files import ImageFiles, first_per_class
from kt_exp.data.targets import check_targets, read_target, refuse_known
from kt_exp.errors import UserError, did_you_mean
from kt_exp.unicode import user_path

Photo = tuple[Path, int]  # a file with its ImageNet class
SHIPPED = Path(imagenet.__file__).parent / "photos" / "labels.csv"


@dataclass(kw_only=True)
class PhotoBenchmark(ClassificationTask):
    """Photos of ImageNet's classes; excluded classes, or your own photos, are the concepts.

    The known classes are ImageNet's without `exclude_names`. All are candidates, also those without
    photos. With `target_root` the concepts' photos come from folders.
    """

    labels_csv: Optional[str]
    calibration_csv: Optional[str]
    target_root: Optional[str]
    exclude_names: list[str]
    images_per_known_class: int = number(minimum=0)
    templates: list[str]
    fix_articles: bool
    batch_size: int = number(minimum=1, maximum=100_000)
    workers: int = number(minimum=0, maximum=1024)
    on_bad_image: str = choice("error", "skip")

    def problems(self) -> Iterator[tuple[str, str, str]]:
        yield from template_problems(self.templates)
        known = {name_key(name) for name in imagenet.class_names()}
        for name in self.exclude_names:
            if name_key(name) not in known:
                yield ("exclude_names", f"ImageNet has no class '{name}'",
                       did_you_mean(name, imagenet.class_names()))

    def known_names(self) -> list[str]:
        names = imagenet.class_names()
        return [names[index] for index in self._known_classes]

    def known_images(self) -> ImageFiles:
        return first_per_class(self._known(self._csv.parent, self._photos),
                               self.images_per_known_class)

    def calibration_images(self) -> ImageFiles | None:
        """Return photos of known classes from `calibration_csv`, or else those of the package.

        A photo that `labels_csv` lists too is left out, by the name of its file: the photos of the
        package are part of the set of 1000.
        """
        path = user_path(self.calibration_csv) if self.calibration_csv else SHIPPED
        reported = {file.stem for file, _ in self._photos}
        photos = [(file, index) for file, index in _read(path, "benchmark.calibration_csv")
                  if file.stem not in reported]
        images = self._known(path.parent, photos)
        if not len(images) and self.calibration_csv:
            raise UserError("benchmark.calibration_csv", f"{path} lists no photo of a known class "
                            "that is not reported on", "give a CSV of other photos")
        return images if len(images) else None

    def target_images(self, concept: Concept) -> ImageFiles:
        if self.target_root is not None:
            return read_target(user_path(self.target_root), concept)
        files = [file for file, index in self._photos
                 if name_key(imagenet.class_names()[index]) == name_key(concept.image_class)]
        if not files:
            raise UserError("benchmark.labels_csv", f"no photo of '{concept.image_class}' in "
                            f"{self._csv}",
                            "give a CSV that labels some, or benchmark.target_root with a folder "
                            "of them")
        return ImageFiles(self._csv.parent, files, [0] * len(files))

    def check_concepts(self, concepts: Sequence[Concept]) -> None:
        refuse_known(concepts, self.known_names(),
                     "ImageNet has it: name it in model.exclude_names, or choose another")
        if not len(self.known_images()):
            raise UserError("benchmark.labels_csv", f"no photo of a known class in {self._csv}",
                            "give a CSV that labels some")
        if self.target_root is not None:
            check_targets(user_path(self.target_root), concepts)
        for concept in concepts:
            self.target_images(concept)

    @property
    def _csv(self) -> Path:
        return user_path(self.labels_csv) if self.labels_csv else SHIPPED

    @cached_property
    def _photos(self) -> list[Photo]:
        """Each photo with its ImageNet class, in the order of the CSV."""
        return _read(self._csv, "benchmark.labels_csv")

    def _known(self, root: Path, photos: Sequence[Photo]) -> ImageFiles:
        """Return the photos of known classes, labelled by index into `known_names`."""
        label_of = {index: label for label, index in enumerate(self._known_classes)}
        known = [(file, label_of[index]) for file, index in photos if index in label_of]
        return ImageFiles(root, [file for file, _ in known], [label for _, label in known])

    @cached_property
    def _known_classes(self) -> list[int]:
        excluded = {name_key(name) for name in self.exclude_names}
        return [index for index, name in enumerate(imagenet.class_names())
                if name_key(name) not in excluded]


def _read(path: Path, where: str) -> list[Photo]:
    images = imagenet.read_labels_csv(path, imagenet.wnids(), where)
    return list(zip(images.files, images.labels, strict=True))
