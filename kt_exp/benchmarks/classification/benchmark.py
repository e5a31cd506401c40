"""Base class of the benchmarks of zero-shot classification: prompts, examples, evaluator."""

from __future__ import annotations

from contextlib import suppress

from PIL import Image

from kt_exp.benchmarks.classification.evaluator import EmbeddingEvaluator
from kt_exp.benchmarks.classification.pair_evaluator import PairEvaluator
from kt_exp.benchmarks.classification.prompts import known_prompts, target_prompts
from kt_exp.benchmarks.classification.task import ZeroShotTask
from kt_exp.benchmarks.protocol import ClassificationBenchmark, Evaluator, ImageSet
from kt_exp.concepts import Concept
from kt_exp.errors import UserError
from kt_exp.models.protocol import DualEncoder, Model, PairMatcher
from kt_exp.progress import Progress
from kt_exp.store import Store


class ClassificationTask:
    """Mixin that completes a dataclass to a `ClassificationBenchmark`.

    The dataclass has the keys `batch_size`, `workers`, `on_bad_image`, `templates` and
    `fix_articles`, and the methods `known_names`, `known_images`, `target_images` and
    `check_concepts`; it may override `calibration_images`.
    """

    def calibration_images(self) -> ImageSet | None:
        """Return no images: none of the known classes are kept from the report."""
        return None

    def known_prompts(self: ClassificationBenchmark) -> list[list[str]]:
        """Return each known class's prompts, in label order: its name in every template."""
        return known_prompts(self)

    def examples(self: ClassificationBenchmark, concept: Concept, most: int) -> list[Image.Image]:
        """Return the first `most` images of a concept, without unreadable ones."""
        images = self.target_images(concept)
        shown = []
        for index in range(min(most, len(images))):
            # The evaluation reports and counts unreadable images.
            with suppress(UserError):
                shown.append(images.open(index))
        return shown

    def evaluator(self: ClassificationBenchmark, model: Model, fingerprint: str, store: Store,
                  progress: Progress) -> Evaluator:
        """Return the evaluator by embeddings (dual encoders) or by pairs (pair matchers).

        Raises:
            UserError: the model is neither.
        """
        if isinstance(model, DualEncoder):
            return EmbeddingEvaluator(model, fingerprint, zero_shot_task(self), store, progress)
        if isinstance(model, PairMatcher):
            return PairEvaluator(model, fingerprint, zero_shot_task(self), store, progress)
        raise UserError("model", f"{type(model).__name__} cannot classify images",
                        "choose a dual encoder such as CLIP, or a pair matcher such as ViLT")


def zero_shot_task(benchmark: ClassificationBenchmark) -> ZeroShotTask:
    """Return the values that an evaluator needs of a benchmark."""
    return ZeroShotTask(
        benchmark.templates, benchmark.known_names(), known_prompts(benchmark),
        benchmark.known_images(), benchmark.target_images,
        lambda concept, phase: target_prompts(benchmark, concept, phase), benchmark,
        benchmark.calibration_images())
