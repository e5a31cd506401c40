"""Evaluator of segmentation: masks and scores are computed once and stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from kt_exp.benchmarks.segmentation.maps import Segmenter, masks_in
from kt_exp.benchmarks.segmentation.masks import MaskedImages, readable
from kt_exp.benchmarks.segmentation.metrics import overlap
from kt_exp.benchmarks.segmentation.panels import Segmented, draw_panels
from kt_exp.benchmarks.segmentation.sam import Sam
from kt_exp.benchmarks.segmentation.settings import M2IBSettings, TuneSettings
from kt_exp.benchmarks.segmentation.tuning import tune
from kt_exp.concepts import Concept
from kt_exp.models.protocol import TransformerTrunk
from kt_exp.models.weights import FROZEN, Weights
from kt_exp.progress import Progress
from kt_exp.results.outcome import ImageScore, Metric, Outcome, Phase
from kt_exp.store import Entry, Store, signature

VERSION = 2
KIND, READABLE = "segmentation", "readable"


@dataclass(frozen=True)
class SegmentationTask:
    """Images, settings of segmentation, and how masks are scored.

    Attributes:
        concepts: all concepts of the run.
        pairs: returns the images of a concept with their masks.
        text: returns the text that M2IB looks for.
        split: splits images into those to tune M2IB on (may be empty) and those to evaluate.
        m2ib: settings of M2IB where it is not tuned.
        tune: the grid to tune M2IB over.
        components: number of connected components that are kept of a mask.
        nsd: definition of the normalised surface Dice; `tolerance` is in px.
        batch_size: images per batch of M2IB.
        on_bad_image: `error` or `skip`.
        signature: all settings that affect a score, as plain values.
        notes: returns notes on how the scores of a concept and phase were computed.
    """

    concepts: list[Concept]
    pairs: Callable[[Concept], MaskedImages]
    text: Callable[[Concept], str]
    split: Callable[[MaskedImages], tuple[MaskedImages, MaskedImages]]
    m2ib: M2IBSettings
    tune: TuneSettings
    components: int
    nsd: str
    tolerance: float
    batch_size: int
    on_bad_image: str
    signature: dict[str, Any]
    notes: Callable[[M2IBSettings, str], list[str]]


@dataclass
class SegmentationEvaluator:
    """Segments with M2IB and SAM; `reused` counts the outcomes found in the store."""

    model: TransformerTrunk
    fingerprint: str
    task: SegmentationTask
    sam: Sam | None
    store: Store
    progress: Progress
    reused: int = 0
    _segmented: dict[Concept, Segmented] = field(default_factory=dict)

    def untrained(self, group: Sequence[Concept]) -> list[Outcome]:
        """Return the baseline of each concept.

        Raises:
            UserError: files of any concept of the run are unreadable or do not match.
        """
        for concept in self.task.concepts:  # all, before anything costly
            self._readable(self.task.pairs(concept))
        return [self._outcome(concept, Phase.baseline, FROZEN) for concept in group]

    def transferred(self, group: Sequence[Concept], weights: Weights) -> list[Outcome]:
        """Return the outcomes of fine-tuned weights."""
        return [self._outcome(concept, Phase.transferred, weights)
                for concept in group]

    def image_count(self, group: Sequence[Concept]) -> int:
        """Return how many images of the concepts are segmented."""
        return sum(len(self.task.pairs(concept)) for concept in group)

    def outcome_keys(self, group: Sequence[Concept], weights: Weights) -> list[tuple[str, str]]:
        """Return no keys: they depend on which images can be read."""
        return []

    def panels(self, outcomes: Sequence[Outcome], folder: Path) -> dict[str, str]:
        """Draw the images with the best and the worst change in DSC: truth, maps and masks.

        Returns title → file name in `folder`. Concepts without both phases are left out.
        """
        scores = [score for outcome in outcomes for score in outcome.per_image]
        drawn: dict[str, str] = {}
        for concept, segmented in self._segmented.items():
            drawn |= draw_panels(concept, segmented, scores, self.store, folder)
        return drawn

    def _outcome(self, concept: Concept, phase: Phase, weights: Weights) -> Outcome:
        images, skipped = self._readable(self.task.pairs(concept))
        tuned_on, images = self.task.split(images)
        segmenter = self._segmenter(concept, weights)
        key = signature([VERSION, segmenter.weights, phase.value, concept.name, segmenter.text,
                         self.task.signature, images.fingerprint(), tuned_on.fingerprint(),
                         self.sam and self.sam.fingerprint])

        def compute() -> Entry:
            of = f"{concept.name}, {phase.value}"
            with weights.applied(self.model):
                settings = self._tuned(segmenter, tuned_on)
                masks = segmenter.masks(images, settings, of)
            scores = self._scores(concept, phase, images, masks)
            outcome = Outcome(_means(scores), skipped=skipped, per_image=scores,
                              notes=self.task.notes(settings, of))
            return Entry({"outcome": outcome.to_json(), "masks": masks,
                          "maps": segmenter.map_keys(images, settings)}, {})

        entry = self.store.get_or_compute(KIND, key, compute)
        self.reused += entry.found
        segmented = self._segmented.setdefault(concept, Segmented(images, {}, {}))
        segmented.masks[phase.value] = entry.record["masks"]
        segmented.maps[phase.value] = entry.record["maps"]
        return Outcome.from_json(entry.record["outcome"])

    def _segmenter(self, concept: Concept, weights: Weights) -> Segmenter:
        signed = signature([self.fingerprint, self.model.device.type, weights.key])
        return Segmenter(self.model, signed, self.task.text(concept), self.sam,
                         self.task.components, self.task.batch_size, self.store,
                         self.progress)

    def _readable(self, pairs: MaskedImages) -> tuple[MaskedImages, list[str]]:
        """Return the readable pairs and the paths of unreadable files; cached."""
        key = signature([VERSION, str(pairs.root), pairs.fingerprint(),
                         self.task.on_bad_image])

        def compute() -> Entry:
            with self.progress("Reading images and masks", len(pairs)) as bar:
                good, skipped = readable(pairs, self.task.on_bad_image, bar.advance)
            return Entry({"good": good, "skipped": skipped}, {})

        entry = self.store.get_or_compute(READABLE, key, compute)
        return pairs.take(entry.record["good"]), entry.record["skipped"]

    def _tuned(self, segmenter: Segmenter, images: MaskedImages) -> M2IBSettings:
        if not len(images):
            return self.task.m2ib
        return tune(segmenter, images, self.task.m2ib, self.task.tune)

    def _scores(self, concept: Concept, phase: Phase, images: MaskedImages,
                masks: Sequence[str]) -> list[ImageScore]:
        scores = []
        with self.progress(f"Scoring {concept.name}", len(images)) as bar:
            for index, mask in enumerate(masks_in(self.store, masks)):
                scored = overlap(images.mask(index), mask, self.task.nsd, self.task.tolerance)
                scores += [ImageScore(phase, concept.name, images.name(index), metric, value)
                           for metric, value in scored._asdict().items()]
                bar.advance()
        return scores


def _means(scores: Sequence[ImageScore]) -> list[Metric]:
    """Return the mean over images of each metric."""
    values: dict[str, list[float]] = {}
    for score in scores:
        values.setdefault(score.metric, []).append(score.value)
    first = scores[0]
    return [Metric(first.phase, first.concept, "target", metric, fmean(of_metric), None,
                   len(of_metric)) for metric, of_metric in values.items()]
