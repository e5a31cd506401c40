"""Chooses the constant γ on each model's scores (`finetune.calibration`): on which images, when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kt_exp.benchmarks.classification.calibration import calibrate_model
from kt_exp.benchmarks.classification.phase_evaluator import PhaseEvaluator
from kt_exp.benchmarks.prepared import PreparedImages
from kt_exp.benchmarks.protocol import Evaluator
from kt_exp.concepts import Concept
from kt_exp.errors import UserError
from kt_exp.finetune.images import TrainingImages
from kt_exp.inversion.image_scorer import check_image_scorer
from kt_exp.inversion.stage import check_distance
from kt_exp.models.weights import Weights
from kt_exp.progress import Progress
from kt_exp.results.operating_point import Calibration
from kt_exp.results.outcome import Outcome
from kt_exp.store import Store, signature

WHERE = "finetune.calibration"
SEEDS = 2**32  # above every `seed`: no image of rehearsal is calibrated on


@dataclass(frozen=True)
class Calibrator:
    """Evaluates fine-tuned models also with the constant γ that a budget allows.

    Attributes:
        budget: share of the calibration images that may be lost to γ, in [0, 1].
        labels: class of each prompt of a known class to invert; empty if the benchmark has
            calibration images.
    """

    evaluator: PhaseEvaluator
    budget: float
    images: TrainingImages
    labels: dict[str, int]

    @classmethod
    def of(cls, evaluator: Evaluator, known_prompts: Sequence[Sequence[str]],
           images: TrainingImages) -> Calibrator | None:
        """Return the calibrator that the settings ask for; None if there is nothing to calibrate.

        Args:
            known_prompts: of each known class that is not taught.

        Raises:
            UserError: the task has no margins or no known classes, or the model cannot invert.
        """
        if images.finetune.calibration == "none":
            return None
        if not isinstance(evaluator, PhaseEvaluator):
            raise UserError(WHERE, "'budget' needs a benchmark with images of known classes",
                            "choose one, such as benchmark=folders, or finetune.calibration=none")
        if evaluator.task.calibration_images is not None:
            return cls(evaluator, images.finetune.budget, images, {})
        if not known_prompts:
            raise UserError(WHERE, "no images and no prompts of known classes: all are taught",
                            "leave one out with concepts.only, or set finetune.calibration=none")
        check_distance(images.inverted_model, images.inversion.distance)
        check_image_scorer(images.inverted_model, images.inversion)
        first: dict[str, int] = {}  # Of classes that share a prompt the first can be recognised.
        for label, prompts in enumerate(evaluator.task.known_prompts):
            first.setdefault(prompts[0], label)
        labels = {prompts[0]: first[prompts[0]] for prompts in known_prompts}
        return cls(evaluator, images.finetune.budget, images, labels)

    def invert(self, store: Store, progress: Progress) -> None:
        """Invert one image from each known class's prompt, if the benchmark has no images."""
        if not self.labels:
            return
        images = self.own_images
        pixels = images.rehearsal(self.labels, store, progress)
        key = signature([*images.rehearsal_captions(self.labels), *self.labels.values()])
        self.evaluator.inverted = PreparedImages(pixels, list(self.labels.values()), key)

    @property
    def own_images(self) -> TrainingImages:
        """What inverts the images to calibrate on: one of each prompt, by seeds of their own."""
        return replace(self.images, seed=self.images.seed + SEEDS,
                       finetune=replace(self.images.finetune, rehearsal_per_class=1))

    def evaluate(self, group: Sequence[Concept],
                 weights: Weights) -> tuple[Calibration, list[Outcome]]:
        """Return γ and the outcomes of fine-tuned weights without and with it."""
        calibration = calibrate_model(self.evaluator, group, weights, self.budget)
        return calibration, self.evaluator.transferred(group, weights, calibration)
