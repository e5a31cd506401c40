"""What the pipeline may ask of a benchmark, and the image sets it hands out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from kt_exp.concepts import Concept


class ImageSet(Protocol):
    """Labelled images, opened one by one (so that loader processes can share the work)."""

    @property
    def labels(self) -> list[int]:
        """Class index of each image, into the names that go with the set."""
        ...

    def __len__(self) -> int: ...

    def open(self, index: int) -> Image.Image:
        """Return image `index` in RGB.

        Raises:
            UserError: the file cannot be read as an image; names its path.
        """
        ...

    def fingerprint(self) -> str:
        """Return a hash that changes when an image, its label or the order changes."""
        ...


class ClassificationBenchmark(Protocol):
    """Zero-shot classification of known classes and of one or more new concepts."""

    batch_size: int
    workers: int
    on_bad_image: str

    @property
    def templates(self) -> list[str]:
        """Prompt templates with `{}` for the class name; a class is the mean over all of them."""
        ...

    @property
    def fix_articles(self) -> bool:
        """Whether prompts say "an umbrella" where a template says "a {}"."""
        ...

    def known_names(self) -> list[str]:
        """Return the names of the known classes, in label order."""
        ...

    def known_images(self) -> ImageSet:
        """Return images of the known classes, labelled by index into `known_names()`."""
        ...

    def target_images(self, concept: Concept) -> ImageSet:
        """Return real images of one new concept; all labels are 0."""
        ...

    def check_concepts(self, concepts: Sequence[Concept]) -> None:
        """Find what is wrong with the benchmark for these concepts, before anything costly.

        Raises:
            UserError: a missing folder, fewer than two known classes, a concept without images, a
                concept that is also a known class.
        """
        ...
