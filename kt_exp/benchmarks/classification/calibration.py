"""Choice of a model's constant γ on images of known classes that are not reported on."""

from __future__ import annotations

from collections.abc import Sequence

from kt_exp.benchmarks.classification.metrics import Scored
from kt_exp.benchmarks.classification.phase_evaluator import PhaseEvaluator
from kt_exp.benchmarks.classification.tradeoff import plain_known_right
from kt_exp.concepts import Concept
from kt_exp.models.weights import FROZEN, Weights
from kt_exp.results.operating_point import Calibration, OperatingPoint, calibrate
from kt_exp.results.outcome import Phase
from kt_exp.store import Entry, signature

VERSION = 1
KIND = "calibration"


def calibrate_model(evaluator: PhaseEvaluator, group: Sequence[Concept], weights: Weights,
                    budget: float) -> Calibration:
    """Return γ for the scores of concepts that share the model `weights`, from the store if there.

    Args:
        budget: share of the calibration images that may be lost to γ, in [0, 1].

    Raises:
        ValueError: there are no calibration images.
        UserError: an unreadable image under `on_bad_image: error`, or no readable one.
    """
    images = "inverted" if evaluator.task.calibration_images is None else "benchmark"

    def compute() -> Entry:
        before = evaluator.calibration_scored(group, FROZEN)
        after = evaluator.calibration_scored(group, weights)
        point = operating_point(before, after, budget)
        return Entry(Calibration([concept.name for concept in group], images, point,
                                 after.skipped).to_json(), {})

    key = signature([VERSION, evaluator.key(group, group[0], Phase.calibrated, weights), images,
                     evaluator.calibration_images.fingerprint(), budget])
    return Calibration.from_json(evaluator.store.get_or_compute(KIND, key, compute).record)


def operating_point(before: Scored, after: Scored, budget: float) -> OperatingPoint:
    """Return γ for fine-tuned weights, from known images with their margins before and after."""
    reference = int(plain_known_right(before.margins, before.labels).sum())
    right = after.margins.best_other == after.labels
    return calibrate(after.margins.values.numpy(), right.numpy(), budget, reference)
