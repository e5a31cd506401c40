"""What fine-tuning changed for single images: predictions before and after, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from kt_exp.benchmarks.classification.phase_evaluator import PhaseEvaluator
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.concepts import Concept
from kt_exp.results.outcome import Outcome, Phase
from kt_exp.results.predictions import Change, Guesses


@dataclass(frozen=True)
class _Measured:
    """The images of a set that were measured: all but the unreadable ones, in order."""

    images: ImageSet
    indices: list[int]
    paths: list[str]

    @classmethod
    def of(cls, images: ImageSet, skipped: Sequence[str], count: int) -> _Measured:
        """Return the `count` images that were measured; of a set without `paths`, by number."""
        unreadable = set(skipped)
        paths = getattr(images, "paths", None) or [str(i) for i in range(len(images))]
        indices = [i for i, path in enumerate(paths) if path not in unreadable]
        if len(indices) != count:  # without paths it is not known which could not be read
            return cls(images, [], [str(i) for i in range(count)])
        return cls(images, indices, [paths[i] for i in indices])


def changes(evaluator: object, groups: Sequence[Sequence[Concept]],
            outcomes: Sequence[Outcome]) -> list[Change]:
    """Return the predictions of each concept that was measured before and after fine-tuning.

    Args:
        groups: the concepts of each model.
    """
    if not isinstance(evaluator, PhaseEvaluator):
        return []
    by_phase = {(one.metrics[0].phase, one.metrics[0].concept): one for one in outcomes
                if one.predictions and one.metrics}
    task, found = evaluator.task, []
    for group in groups:
        for concept in group:
            before, after = (by_phase.get((phase, concept.name))
                             for phase in (Phase.baseline, Phase.transferred))
            if not (before and after and before.predictions and after.predictions
                    and before.margins and after.margins):
                continue
            found.append(Change(
                concept.name, [*task.known_names, *(other.name for other in group)],
                before.predictions, after.predictions,
                {"target": _Measured.of(task.target_images(concept), after.skipped,
                                        len(after.margins.target)).paths,
                 "known": _Measured.of(task.known_images, after.skipped,
                                       len(after.margins.known)).paths},
                {"target": (before.margins.target, after.margins.target),
                 "known": (before.margins.known, after.margins.known)}))
    return found


def lost_images(evaluator: object, change: Change, skipped: Sequence[str],
                most: int) -> list[tuple[Image.Image, str, Guesses]]:
    """Return the first known images that fine-tuning lost, each with "label → taken for"."""
    assert isinstance(evaluator, PhaseEvaluator)
    ranked = change.after.known
    known = _Measured.of(evaluator.task.known_images, skipped, len(ranked.labels))
    lost = [i for i, what in enumerate(change.changes("known")) if what == "lost"]
    guesses = change.guesses("known")
    return [(known.images.open(known.indices[i]), f"{change.candidates[ranked.labels[i]]} → "
             f"{change.candidates[ranked.taken[i]]}", guesses[i])
            for i in lost[:most] if known.indices]
