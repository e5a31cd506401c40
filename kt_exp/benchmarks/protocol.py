"""Protocols of benchmarks, their evaluators and their image sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from kt_exp.concepts import Concept
from kt_exp.models.protocol import Model
from kt_exp.models.weights import Weights
from kt_exp.progress import Progress
from kt_exp.results.outcome import Outcome
from kt_exp.store import Store


class ImageSet(Protocol):
    """Labelled images, opened one by one so that loader processes can share the work.

    A set may have `paths`, what each image is called in predictions.csv; else it is its number.
    """

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


class Evaluator(Protocol):
    """Measures a model on a benchmark; `reused` counts the outcomes found in the store."""

    reused: int

    def untrained(self, group: Sequence[Concept]) -> list[Outcome]:
        """Return the outcomes of the untrained model's phases, for concepts that share a model."""
        ...

    def transferred(self, group: Sequence[Concept], weights: Weights) -> list[Outcome]:
        """Return the outcomes of fine-tuned weights."""
        ...

    def panels(self, outcomes: Sequence[Outcome], folder: Path) -> dict[str, str]:
        """Draw pictures for the report; return title → file name in `folder`. May be empty.

        The report shows a picture at half its size in pixels, for high-density screens.
        """
        ...


@runtime_checkable
class Counted(Protocol):
    """An evaluator that tells in advance what it will measure (for `dry_run`)."""

    def image_count(self, group: Sequence[Concept]) -> int:
        """Return how many images one model of these concepts is measured on."""
        ...

    def outcome_keys(self, group: Sequence[Concept], weights: Weights) -> list[tuple[str, str]]:
        """Return kind and key in the store of each outcome of `weights`, of which the key counts.

        `FROZEN` stands for all phases of the untrained model. Empty if keys are not known before.
        """
        ...


class Benchmark(Protocol):
    """A task of any kind: classification, retrieval, captioning or segmentation."""

    def check_concepts(self, concepts: Sequence[Concept]) -> None:
        """Check that the benchmark can evaluate these concepts, before anything costly.

        Raises:
            UserError: the first problem found.
        """
        ...

    def known_prompts(self) -> list[list[str]]:
        """Return the prompts of each known class, in label order; empty without known classes.

        Fine-tuning uses them as negatives (`loss: class_ce`, `loss: itm`) and for rehearsal.
        """
        ...

    def examples(self, concept: Concept, most: int) -> list[Image.Image]:
        """Return up to `most` real images of a concept for the report; may be empty."""
        ...

    def evaluator(self, model: Model, fingerprint: str, store: Store,
                  progress: Progress) -> Evaluator:
        """Return the evaluator of `model` on this benchmark.

        Raises:
            UserError: the model cannot do this task; the error says which models can.
        """
        ...


class Prompted(Protocol):
    """What decides the prompts of a name."""

    @property
    def templates(self) -> list[str]:
        """Prompt templates with `{}` for the name; a class's embedding averages over them."""
        ...

    @property
    def fix_articles(self) -> bool:
        """Whether prompts say "an umbrella" where a template says "a {}"."""
        ...


class ClassificationBenchmark(Benchmark, Prompted, Protocol):
    """Zero-shot classification of known classes and of one or more new concepts."""

    batch_size: int
    workers: int
    on_bad_image: str

    def known_names(self) -> list[str]:
        """Return the names of the known classes, in label order."""
        ...

    def known_images(self) -> ImageSet:
        """Return images of the known classes, labelled by index into `known_names()`."""
        ...

    def target_images(self, concept: Concept) -> ImageSet:
        """Return real images of one new concept; all labels are 0."""
        ...

    def calibration_images(self) -> ImageSet | None:
        """Return labelled images of known classes that are not reported on; None without any.

        `finetune.calibration` chooses the constant γ on them. Classes may be absent.
        """
        ...

    def check_concepts(self, concepts: Sequence[Concept]) -> None:
        """Check that the benchmark can evaluate these concepts, before anything costly.

        Raises:
            UserError: a missing folder, fewer than two known classes, a concept without images, a
                concept that is also a known class.
        """
        ...
