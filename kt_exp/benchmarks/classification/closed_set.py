"""A closed set of classes, some of which are taught (`benchmark=chexpert`, `benchmark=jsrt`).

Unlike in other benchmarks, a concept may be one of the classes. Its prompts then replace those of
the class, and no candidate is added (paper, main text, Tab. 4). Any other concept is an additional
candidate with its own folder of images (Tab. 3: JSRT beside the classes of CheXpert).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Optional

from kt_exp.benchmarks.classification.benchmark import ClassificationTask
from kt_exp.benchmarks.classification.closed_set_evaluator import ClassSetEvaluator, ClosedSetTask
from kt_exp.benchmarks.classification.prompts import (
    known_prompts,
    target_prompts,
    template_problems,
)
from kt_exp.concepts import Concept, name_key
from kt_exp.config.checks import choice, number
from kt_exp.csv_files import dict_reader
from kt_exp.data.image_files import (
    ImageFiles,
    class_folders,
    first_per_class,
    labelled,
    listing,
    require_images,
)
from kt_exp.data.known import read_known
from kt_exp.data.targets import read_target, refuse_known
from kt_exp.errors import UserError
from kt_exp.models.protocol import DualEncoder, Model
from kt_exp.progress import Progress
from kt_exp.results.outcome import Phase
from kt_exp.store import Store
from kt_exp.unicode import nfc, on_disk, user_path

ALTERNATIVES = re.compile(r"\{([^{}]*)\}")
CSV_REMEDY = "give a CSV with the columns 'file' (relative to it) and 'class'"


@dataclass(kw_only=True)
class ClassSetBenchmark(ClassificationTask):
    """Classes in folders or a CSV with several prompts each; concepts in the set or beside it."""

    known_root: Optional[str]
    labels_csv: Optional[str]
    target_root: Optional[str]
    calibration_root: Optional[str]
    images_per_known_class: int = number(minimum=0)
    class_prompts: Optional[dict[str, list[str]]]
    ensemble: str = choice("embedding", "mean", "max")
    templates: list[str]
    fix_articles: bool
    batch_size: int = number(minimum=1, maximum=100_000)
    workers: int = number(minimum=0, maximum=1024)
    on_bad_image: str = choice("error", "skip")

    def __post_init__(self) -> None:
        self._taught: set[str] = set()

    def problems(self) -> Iterator[tuple[str, str, str]]:
        yield from template_problems(self.templates)
        if bool(self.known_root) == bool(self.labels_csv):
            given = "both are given" if self.labels_csv else "no images of the classes"
            yield ("known_root", given, "give benchmark.known_root (a sub-folder per class) or "
                   "benchmark.labels_csv (columns file, class)")
        for name, prompts in (self.class_prompts or {}).items():
            if not prompts:
                yield "class_prompts", f"none for '{name}'", "give at least one, or leave it out"
            for prompt in prompts:
                if "{" in ALTERNATIVES.sub("", prompt) or "}" in ALTERNATIVES.sub("", prompt):
                    yield ("class_prompts", f"braces in '{prompt}' do not fit",
                           "write alternatives as {mild|severe}")

    def known_names(self) -> list[str]:
        return list(self._files)

    def known_images(self) -> ImageFiles:
        """Return images of all classes of the set, the taught ones included."""
        images = labelled(self._root, list(self._files.values()))
        return first_per_class(images, self.images_per_known_class)

    def known_prompts(self) -> list[list[str]]:
        """Return the prompts of the classes that are not taught, for fine-tuning.

        `check_concepts` must be called first: it sets which classes are taught.
        """
        return [prompts for name, prompts in zip(self._files, self.class_set_prompts, strict=True)
                if name_key(name) not in self._taught]

    @property
    def class_set_prompts(self) -> list[list[str]]:
        """Prompts of all classes of the set, in label order."""
        return [self._own_prompts(name) or filled
                for name, filled in zip(self._files, known_prompts(self), strict=True)]

    def prompts(self, concept: Concept, phase: Phase) -> list[str]:
        """Return the prompts of a concept in `phase`: its `class_prompts`, or filled templates."""
        own = self._own_prompts(concept.name)
        if own and phase in (Phase.baseline, Phase.transferred, Phase.calibrated):
            return own
        if own and phase is Phase.name_and_description:
            return [*own, *[concept.description] * len(own)]
        return target_prompts(self, concept, phase)

    def class_of(self, concept: Concept) -> int | None:
        """Return the label of a concept's class in the set; None if the set does not have it."""
        keys = [name_key(name) for name in self._files]
        own = name_key(concept.image_class)
        return keys.index(own) if own in keys else None

    def target_images(self, concept: Concept) -> ImageFiles:
        label = self.class_of(concept)
        if label is None:
            return read_target(user_path(self.target_root), concept)
        images = self.known_images()
        files = [file for file, own in zip(images.files, images.labels, strict=True)
                 if own == label]
        return ImageFiles(images.root, files, [0] * len(files))

    def calibration_images(self) -> ImageFiles | None:
        """Return images of the set's classes from `calibration_root`, the taught ones included."""
        return read_known(self.calibration_root, self.known_names())

    def check_concepts(self, concepts: Sequence[Concept]) -> None:
        """Check that the set can evaluate these concepts, and mark their classes as taught.

        Raises:
            UserError: unreadable folders or CSV, fewer than two classes, a class without images, a
                concept that is neither a class nor in `target_root`, prompts of an unknown class,
                or the images of one class under the name of another.
        """
        if len(self._files) < 2:
            raise UserError(self._where, f"'{listing(self.known_names())}' is the only class",
                            "give at least two")
        for concept in concepts:
            self._check_concept(concept)
        named = {name_key(name) for name in (*self._files, *(c.name for c in concepts))}
        for name in self.class_prompts or {}:
            if name_key(name) not in named:
                raise UserError("benchmark.class_prompts", f"'{name}' is not a class",
                                f"there are: {listing(self.known_names())}")
        self._taught = {name_key(concept.image_class) for concept in concepts}

    def evaluator(self, model: Model, fingerprint: str, store: Store,
                  progress: Progress) -> ClassSetEvaluator:
        """Return the evaluator, which compares embeddings.

        Raises:
            UserError: the model is not a dual encoder.
        """
        if not isinstance(model, DualEncoder):
            raise UserError("model", f"{type(model).__name__} has no embeddings to compare with "
                            "several prompts per class", "choose a dual encoder such as CLIP or "
                            "MedCLIP, or benchmark=folders with the concepts beside the classes")
        return ClassSetEvaluator(model, fingerprint, self.task(), store, progress)

    def task(self) -> ClosedSetTask:
        """Return the values that an evaluator needs."""
        return ClosedSetTask(
            self.templates, self.known_names(), self.class_set_prompts, self.known_images(),
            self.target_images, self.prompts, self, self.calibration_images(), self.class_of,
            self.ensemble)

    def _check_concept(self, concept: Concept) -> None:
        if self.class_of(concept) is None and self.target_root is None:
            raise UserError("concepts", f"'{concept.image_class}' is not a class of the set (there "
                            f"are: {listing(self.known_names())})", "choose one of these with "
                            "concepts.only, or give benchmark.target_root with a folder of its "
                            "images")
        if concept.images_of:
            refuse_known([replace(concept, images_of=None)], self.known_names(),
                         f"give the images of '{concept.images_of}' another name")
        self.target_images(concept)

    def _own_prompts(self, name: str) -> list[str]:
        return [prompt for key, prompts in (self.class_prompts or {}).items()
                if name_key(key) == name_key(name)
                for text in prompts for prompt in alternatives(text)]

    @property
    def _where(self) -> str:
        return "benchmark.known_root" if self.known_root else "benchmark.labels_csv"

    @cached_property
    def _root(self) -> Path:
        if self.known_root:
            return user_path(self.known_root)
        return user_path(self.labels_csv).parent

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """The images of each class, in label order."""
        if self.known_root:
            folders = class_folders(self._root, "benchmark.known_root")
            require_images(folders, "benchmark.known_root")
            return {folder.name: folder.images() for folder in folders}
        return read_class_csv(user_path(self.labels_csv), "benchmark.labels_csv")


def alternatives(prompt: str) -> list[str]:
    """Expand alternatives: "{mild|severe} edema" gives "mild edema" and "severe edema".

    White space is collapsed, so that an alternative may be empty.
    """
    parts = ALTERNATIVES.split(prompt)
    options = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    return [" ".join("".join(chosen).split()) for chosen in itertools.product(*options)]


def read_class_csv(path: Path, where: str) -> dict[str, list[Path]]:
    """Return the files of each class that a CSV lists, classes in alphabetical order.

    Args:
        path: a CSV with the columns `file`, relative to its folder, and `class`, a name.
        where: the config key that gave `path`, for the error.

    Raises:
        UserError: no such file, a missing column, a row without a class, or a listed file that
            does not exist.
    """
    if not path.is_file():
        raise UserError(where, f"no such file: {path}", CSV_REMEDY)
    files: dict[str, list[Path]] = {}
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = dict_reader(lines)
        columns = list(reader.fieldnames or ["none"])
        if not {"file", "class"} <= set(columns):
            raise UserError(str(path), f"its columns are: {listing(columns)}", CSV_REMEDY)
        for row in reader:
            file = on_disk(path.parent / (row["file"] or ""))
            name = nfc((row["class"] or "").strip())
            if not name or not file.is_file():
                problem = f"no such file: {file}" if name else "no class"
                raise UserError(f"{path} line {reader.line_num}", problem, CSV_REMEDY)
            files.setdefault(name, []).append(file)
    return dict(sorted(files.items()))
