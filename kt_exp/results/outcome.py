"""What an evaluation finds: numbers with their counts, and what was taken for what."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """Which model and which prompt of the new concept a number belongs to."""

    baseline = "baseline"
    transferred = "transferred"
    name_prompt = "name_prompt"
    description_prompt = "description_prompt"


@dataclass(frozen=True)
class MetricRow:
    """One number.

    Attributes:
        concept: the concept taught, or `report.record.JOINT` where several share a model.
        split: "target" (images of the new concept), "known" (images of the known classes), or
            "all" (a task that knows no such difference: retrieval, captioning, all classes of a
            closed set).
        metric: classification "accuracy" (over images), "mean_per_class_accuracy" (over classes
            with images); retrieval "text_R@1" …, "image_R@10"; captioning "BLEU@4", "METEOR",
            "CIDEr", "SPICE"; segmentation "DSC", "NSD", "IoU".
        value: in [0, 1] (CIDEr: from 0, and may pass 1).
        count: correct images or queries; None for a mean.
        total: images, queries or classes behind the value.
    """

    phase: str
    concept: str
    split: str
    metric: str
    value: float
    count: int | None
    total: int


@dataclass(frozen=True)
class Confusion:
    """How many target images of `concept` were taken for `predicted` (itself included)."""

    phase: str
    concept: str
    predicted: str
    count: int


@dataclass(frozen=True)
class ImageScore:
    """The score of one image (segmentation's DSC, captioning's METEOR); `text` is what was said of
    it, if anything was."""

    phase: str
    concept: str
    image: str
    metric: str
    value: float
    text: str | None = None


@dataclass
class Outcome:
    """The result of one phase for one concept.

    `skipped` lists the images left out as unreadable; `notes` says what else a reader must know
    ("SPICE unavailable: no Java", "nsd: surface2d").
    """

    metrics: list[MetricRow]
    confusions: list[Confusion] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    per_image: list[ImageScore] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Outcome:
        """Return the outcome that `to_json` wrote."""
        return cls(
            metrics=[MetricRow(**row) for row in record["metrics"]],
            confusions=[Confusion(**row) for row in record["confusions"]],
            skipped=list(record["skipped"]),
            per_image=[ImageScore(**row) for row in record["per_image"]],
            notes=list(record["notes"]),
        )
