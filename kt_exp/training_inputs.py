"""What a run trains on: images, or features at the cut that `inversion.layers` names.

And what the untrained model makes of such images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kt_exp.benchmarks.classification.evaluator import EmbeddingEvaluator
from kt_exp.benchmarks.classification.inverted_images import judge_inverted
from kt_exp.benchmarks.embedding import LoaderSettings
from kt_exp.benchmarks.feature_statistics import StatisticsSources
from kt_exp.benchmarks.prepared import PreparedImages
from kt_exp.benchmarks.protocol import Evaluator
from kt_exp.concepts import Concept
from kt_exp.errors import UserError
from kt_exp.finetune.features import TrainingFeatures
from kt_exp.finetune.images import TrainingImages
from kt_exp.models.split import split
from kt_exp.progress import Progress
from kt_exp.results.outcome import Outcome
from kt_exp.store import Entry, Store


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


def judge_training_images(evaluator: Evaluator, images: TrainingImages,
                          groups: Sequence[Sequence[Concept]],
                          inverted: Mapping[str, Entry]) -> list[Outcome]:
    """Return what the untrained model makes of each concept's inverted images.

    Empty without inverted images, for features, and where the benchmark does not classify by
    embeddings.

    Args:
        groups: the concepts that share a model, which are candidates together.
        inverted: the entries of the inversion stage, by concept.
    """
    if not inverted or not isinstance(evaluator, EmbeddingEvaluator) \
            or isinstance(images, TrainingFeatures):
        return []
    outcomes = []
    for group in groups:
        for concept in group:
            pixels = images.load([concept], inverted)
            prepared = PreparedImages(pixels, [0] * len(pixels), images.key(concept))
            outcomes.append(judge_inverted(evaluator, group, concept, prepared))
    return outcomes
