"""Results of an evaluation: metrics with their counts, confusions, scores of single images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

from kt_exp.results.curve import Curve
from kt_exp.results.gains import PhaseMargins
from kt_exp.results.intervals import wilson
from kt_exp.results.predictions import PhasePredictions

# Classification at equal forgetting (benchmarks/classification/tradeoff.py): metric → split.
TRADEOFF_METRICS = {
    "auroc": "all", "target_at_1": "target", "target_at_2": "target", "target_at_5": "target",
    "ausuc": "all", "best_harmonic_mean": "all", "known_only": "known",
}
INVERTED = "inverted"  # the split of inverted images, as the untrained model sees them
JOINT = "all concepts"  # the name of the one model that `finetune.scope: joint` makes


class Phase(StrEnum):
    """The model and the prompts of the new concept that were evaluated.

    - `baseline`: the untrained model, with the name in the prompt templates.
    - `transferred`: the fine-tuned model, with the same prompts.
    - `calibrated`: the same with the constant γ of `results.operating_point` on its scores.
    - `name_prompt`, `description_prompt`, `name_and_description` (mean of both embeddings),
      `parts_prompt` (mean over the description's parts): the untrained model with these prompts.
    """

    baseline = "baseline"
    transferred = "transferred"
    calibrated = "calibrated"
    name_prompt = "name_prompt"
    description_prompt = "description_prompt"
    name_and_description = "name_and_description"
    parts_prompt = "parts_prompt"


@dataclass(frozen=True)
class Metric:
    """One number.

    Attributes:
        concept: the new concept, or `JOINT` if several share a model.
        split: "target" (images of the new concept), "known" (images of the known classes),
            "inverted" (inverted images of the new concept), or "all" (no such distinction:
            retrieval, captioning, all classes of a closed set).
        metric: classification "accuracy" (over images), "mean_per_class_accuracy" (over classes
            with images), the trade-off metrics (`TRADEOFF_METRICS`), and of inverted images
            "frechet_distance", "frechet_floor";
            retrieval "text_R@1" …, "image_R@10"; captioning "BLEU@4", "METEOR",
            "CIDEr", "SPICE"; segmentation "DSC", "NSD", "IoU".
        value: in [0, 1] (CIDEr and Fréchet distances: at least 0, may exceed 1); None if it could
            not be measured.
        count: number of correct images or queries; None if the value is no rate.
        total: number of images, queries or classes behind the value.
        reason: why there is no value, or an explanation of it.
    """

    phase: Phase
    concept: str
    split: str
    metric: str
    value: float | None
    count: int | None
    total: int
    reason: str | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The Wilson 95 % interval of a rate, in [0, 1]; None if the value is no rate."""
        return None if self.count is None or not self.total else wilson(self.count, self.total)


@dataclass(frozen=True)
class Confusion:
    """How many images of `concept` were assigned to `predicted`, which may be `concept`."""

    phase: Phase
    concept: str
    predicted: str
    count: int


@dataclass(frozen=True)
class ImageScore:
    """The score of one image (DSC of segmentation, METEOR of captioning).

    `text` is the generated caption, if there is one.
    """

    phase: Phase
    concept: str
    image: str
    metric: str
    value: float
    text: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a concept in advance; without a text encoder, only its tokens.

    Attributes:
        tokens: number of tokens of the caption "A X is …", including start and end.
        token_limit: the model's maximum.
        cosine: of the name (mean over templates) with "A X is …", in [-1, 1], or None.
        nearest: the known names (mean over templates) closest to the description, with their
            cosines, best first, at most three.
        warning: why transfer is unlikely, or None.
    """

    tokens: int
    token_limit: int
    cosine: float | None = None
    nearest: list[tuple[str, float]] = field(default_factory=list)
    warning: str | None = None


@dataclass
class Outcome:
    """The result of one phase for one concept.

    `skipped` lists unreadable images; `notes` has other remarks for the reader ("SPICE unavailable:
    no Java", "nsd: surface2d"). Classification also has the seen–unseen `curve` and the `margins`
    of all images, from which it was computed; before and after fine-tuning also the `predictions`.
    """

    metrics: list[Metric]
    confusions: list[Confusion] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    per_image: list[ImageScore] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    curve: Curve | None = None
    margins: PhaseMargins | None = field(default=None, compare=False)
    predictions: PhasePredictions | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings; margins and predictions are left out."""
        record = asdict(replace(self, margins=None, predictions=None))
        return {name: value for name, value in record.items() if name != "predictions"}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Outcome:
        """Return the outcome that `to_json` wrote."""
        return cls(
            metrics=[row_of(Metric, row) for row in record["metrics"]],
            confusions=[row_of(Confusion, row) for row in record["confusions"]],
            skipped=list(record["skipped"]),
            per_image=[row_of(ImageScore, row) for row in record["per_image"]],
            notes=list(record["notes"]),
            curve=Curve.from_json(record["curve"]) if record.get("curve") else None,
        )


Row = TypeVar("Row", Metric, Confusion, ImageScore)


def row_of(kind: type[Row], fields: Mapping[str, Any]) -> Row:
    """Return the row with the given JSON `fields`.

    Raises:
        ValueError: an unknown phase.
        TypeError: a missing or unknown field.
    """
    known = {name: value for name, value in fields.items() if name != "interval"}
    return kind(**{**known, "phase": Phase(fields["phase"])})
