"""What a run trains on: images, or features at the cut that `inversion.layers` names."""

from __future__ import annotations

from collections.abc import Sequence

from kt_exp.benchmarks.classification.evaluator import EmbeddingEvaluator
from kt_exp.benchmarks.embedding import LoaderSettings
from kt_exp.benchmarks.feature_statistics import StatisticsSources
from kt_exp.benchmarks.protocol import Evaluator
from kt_exp.errors import UserError
from kt_exp.finetune.features import TrainingFeatures
from kt_exp.finetune.images import TrainingImages
from kt_exp.models.split import split
from kt_exp.progress import Progress
from kt_exp.store import Store


def training_inputs(images: TrainingImages, evaluator: Evaluator,
                    known_prompts: Sequence[Sequence[str]], loader: LoaderSettings, store: Store,
                    progress: Progress) -> TrainingImages:
    """Return `images`, or the features that take their place.

    Args:
        evaluator: has the images of known classes, if the benchmark classifies by embeddings.
        known_prompts: of each known class.

    Raises:
        UserError: the model cannot be cut there, there is nothing to take statistics from, or
            `finetune.images_as` is for images.
    """
    layers = images.inversion.layers
    if layers == "all":
        return images
    if images.finetune.images_as == "png":
        raise UserError("finetune.images_as", "'png' is for images, but inversion.layers is "
                        f"'{layers}'", "set finetune.images_as=tensor")
    top = split(images.model, layers)
    known = evaluator.task.known_images if isinstance(evaluator, EmbeddingEvaluator) else None
    sources = StatisticsSources(top, images, known, [prompts[0] for prompts in known_prompts],
                                loader, store, progress)
    return TrainingFeatures(**vars(images), top=top, statistics=sources.find())
