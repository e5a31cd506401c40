"""Benchmark on drawings of the pictogram world (`benchmark=pictograms`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from kt_exp.benchmarks.classification.benchmark import ClassificationTask
from kt_exp.benchmarks.classification.prompts import template_problems
from kt_exp.concepts import Concept, name_key
from kt_exp.config.checks import choice, number
from kt_exp.data.targets import refuse_known
from kt_exp.errors import UserError, did_you_mean
from kt_exp.pictograms.drawings import (
    COMPOSITION,
    HELD_OUT,
    KNOWN,
    draw_class,
    invented_names,
)
from kt_exp.store import signature

SEEDS = 2**32  # reported drawings have seeds below it, drawings for calibration from it on


@dataclass(frozen=True)
class Drawings:
    """Fresh drawings, `per_class` of each class in `names`: an `ImageSet` without files."""

    names: tuple[str, ...]
    per_class: int
    seed: int

    @property
    def labels(self) -> list[int]:
        return [label for label in range(len(self.names)) for _ in range(self.per_class)]

    def __len__(self) -> int:
        return len(self.names) * self.per_class

    @property
    def paths(self) -> list[str]:
        """What each drawing is called in results: "moongate/3"."""
        return [f"{name}/{nth}" for name in self.names for nth in range(self.per_class)]

    def open(self, index: int) -> Image.Image:
        """Return drawing `index`, 64 px wide and high, RGB."""
        label, nth = divmod(index, self.per_class)
        return Image.fromarray(_draw(self.names[label], self.per_class, self.seed)[nth])

    def fingerprint(self) -> str:
        """Return a hash of all that decides the pixels, without drawing them."""
        return signature([_world(), self.names, self.per_class, self.seed])


@dataclass(kw_only=True)
class PictogramBenchmark(ClassificationTask):
    """The known classes of the pictogram world, and its held-out concepts.

    `invented_names` of the names that PictoCLIP was trained on are candidates too, without images
    of their own: with few candidates, a strange name wins strange pictures by default.
    """

    invented_names: int = number(minimum=0, maximum=100_000)
    images_per_known_class: int = number(minimum=1, maximum=100_000)
    images_per_target: int = number(minimum=1, maximum=100_000)
    calibration_per_known_class: int = number(minimum=0)
    seed: int = number(minimum=0, maximum=SEEDS - 1)
    templates: list[str]
    fix_articles: bool
    batch_size: int = number(minimum=1, maximum=100_000)
    workers: int = number(minimum=0, maximum=1024)
    on_bad_image: str = choice("error", "skip")

    def problems(self) -> Iterator[tuple[str, str, str]]:
        yield from template_problems(self.templates)

    def known_names(self) -> list[str]:
        return [*KNOWN, *invented_names(self.invented_names)]

    def known_images(self) -> Drawings:
        return Drawings(KNOWN, self.images_per_known_class, self.seed)

    def calibration_images(self) -> Drawings | None:
        """Return drawings of the known classes that no value of `seed` reports on."""
        count = self.calibration_per_known_class
        return Drawings(KNOWN, count, SEEDS + self.seed) if count else None

    def target_images(self, concept: Concept) -> Drawings:
        """Return drawings of a held-out concept, or of a composition ("composition 17").

        Raises:
            UserError: the world holds no such concept.
        """
        drawable = {name_key(name): name for name in HELD_OUT}
        wanted = concept.image_class
        name = wanted if COMPOSITION.fullmatch(wanted) else drawable.get(name_key(wanted))
        if name is None:
            raise UserError("concepts", f"no images of '{concept.image_class}': the pictogram "
                            "world cannot draw it", did_you_mean(concept.image_class, HELD_OUT) +
                            " (or benchmark=folders with images of your own)")
        return Drawings((name,), self.images_per_target, self.seed)

    def check_concepts(self, concepts: Sequence[Concept]) -> None:
        refuse_known(concepts, KNOWN, "choose a concept that the world holds out")
        for concept in concepts:
            self.target_images(concept)


@cache
def _world() -> str:
    """Return a hash of how the world is drawn: its code, and the libraries that it paints with."""
    digest = hashlib.sha256(f"{np.__version__} {PIL.__version__}".encode())
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()


@cache
def _draw(name: str, count: int, seed: int) -> np.ndarray:
    return draw_class(name, count, seed)
