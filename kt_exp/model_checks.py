"""What the models of a run must be able to do, checked before anything costly."""

from __future__ import annotations

from kt_exp.errors import UserError
from kt_exp.finetune.images import TrainingImages, check_images
from kt_exp.finetune.objectives import check_objective
from kt_exp.finetune.settings import EDIT
from kt_exp.finetune.updates import check_updates
from kt_exp.inversion.image_scorer import check_image_scorer
from kt_exp.inversion.stage import check_distance
from kt_exp.models.last_map import last_map
from kt_exp.models.protocol import DualEncoder, PairMatcher


def check_models(images: TrainingImages, edits: bool) -> None:
    """Check that the models support the objective, the strategy and the inversion.

    Args:
        images: of the run, with its settings and models.
        edits: whether weights are edited in closed form.

    Raises:
        UserError: names the key of what is not supported.
    """
    finetune, inversion = images.finetune, images.inversion
    for where, model in (("model", images.model), ("inversion.model", images.inverted_model)):
        if not isinstance(model, DualEncoder | PairMatcher):
            raise UserError(f"{where}._target_", f"{type(model).__name__} is neither a DualEncoder "
                            "nor a PairMatcher", "give it the methods of kt_exp.models.protocol")
    if edits:
        last_map(images.model)
    if finetune.strategy == EDIT:
        return
    check_objective(images.learner, finetune)
    check_updates(images.learner, finetune)
    check_images(finetune, inversion)
    if finetune.images == "inverted" or finetune.rehearsal:
        check_distance(images.inverted_model, inversion.distance)
        if images.learner is images.model or inversion.statistics == "prompts":
            check_image_scorer(images.inverted_model, inversion)
