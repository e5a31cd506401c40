"""What an evaluation finds: numbers with their counts, and what was taken for what."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
        split: "target" (images of the new concept) or "known" (images of the known classes).
        metric: "accuracy" (over images) or "mean_per_class_accuracy" (over classes with images).
        value: in [0, 1].
        count: correct images; None for a mean over classes.
        total: images behind "accuracy", classes behind "mean_per_class_accuracy".
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


@dataclass
class Outcome:
    """The result of one phase for one concept; `skipped` lists the images left out as unreadable.
    """

    metrics: list[MetricRow]
    confusions: list[Confusion]
    skipped: list[str]

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
        )
