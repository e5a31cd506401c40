"""Segment the images of a concept before and after, and score the masks; everything is kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from torch import Tensor

from kt_exp.benchmarks.classification.evaluator import FROZEN, Weights
from kt_exp.benchmarks.segmentation.benchmark import SegmentationBenchmark
from kt_exp.benchmarks.segmentation.maps import Segmenter, masks_in
from kt_exp.benchmarks.segmentation.masks import MaskedImages, readable
from kt_exp.benchmarks.segmentation.metrics import overlap
from kt_exp.benchmarks.segmentation.panels import Segmented, draw_panels
from kt_exp.benchmarks.segmentation.sam import Sam
from kt_exp.benchmarks.segmentation.settings import M2IBSettings
from kt_exp.benchmarks.segmentation.tuning import tune
from kt_exp.concepts import Concept
from kt_exp.finetune.train import restored
from kt_exp.models.protocol import TransformerTrunk
from kt_exp.progress import Progress
from kt_exp.results.outcome import ImageScore, MetricRow, Outcome, Phase
from kt_exp.store import Store, signature

VERSION = 1
KIND, READABLE = "segmentation", "readable"


@dataclass
class SegmentationEvaluator:
    """Segments by M2IB and SAM; `reused` counts the outcomes that came from the store."""

    model: TransformerTrunk
    fingerprint: str
    benchmark: SegmentationBenchmark
    sam: Sam | None
    store: Store
    progress: Progress
    reused: int = 0
    _segmented: dict[Concept, Segmented] = field(default_factory=dict)

    def untrained(self, group: Sequence[Concept]) -> list[Outcome]:
        """Return the baseline of each concept: the model as it came.

        Raises:
            UserError: files of any concept of the run that cannot be read or do not fit together.
        """
        for concept in self.benchmark.checked:  # before the first map is made, of whichever
            self._readable(self.benchmark.pairs(concept))
        return [self._outcome(concept, Phase.baseline, FROZEN) for concept in group]

    def transferred(self, group: Sequence[Concept], key: str,
                    changes: dict[str, Tensor]) -> list[Outcome]:
        """Return the outcomes of fine-tuned weights: `changes` to the model, signed by `key`."""
        return [self._outcome(concept, Phase.transferred, Weights(key, changes))
                for concept in group]

    def panels(self, outcomes: Sequence[Outcome], folder: Path) -> dict[str, str]:
        """Draw the images whose DSC rose most, and least: truth, before, after.

        Returns title → file name in `folder`; nothing of a concept that lacks a phase.
        """
        scores = [score for outcome in outcomes for score in outcome.per_image]
        drawn: dict[str, str] = {}
        for concept, segmented in self._segmented.items():
            drawn |= draw_panels(concept, segmented, scores, self.store, folder)
        return drawn

    def _outcome(self, concept: Concept, phase: Phase, weights: Weights) -> Outcome:
        images, skipped = self._readable(self.benchmark.pairs(concept))
        tuned_on, images = self.benchmark.split(images)
        segmenter = self._segmenter(concept, weights)
        key = signature([VERSION, segmenter.weights, phase.value, concept.name, segmenter.text,
                         self.benchmark.what_counts(), images.fingerprint(), tuned_on.fingerprint(),
                         self.sam and self.sam.fingerprint])
        with self.store.lock(KIND, [key]):
            entry = self.store.fetch(KIND, key)
            self.reused += entry is not None
            if entry is None:
                of = f"{concept.name}, {phase.value}"
                with restored(self.model, weights.changes) if weights.changes else nullcontext():
                    settings = self._tuned(segmenter, tuned_on)
                    masks = segmenter.masks(images, settings, of)
                scores = self._scores(concept, phase, images, masks)
                outcome = Outcome(_means(scores), skipped=skipped, per_image=scores,
                                  notes=self.benchmark.notes(settings, of))
                entry = self.store.commit(KIND, key,
                                          {"outcome": outcome.to_json(), "masks": masks})
        segmented = self._segmented.setdefault(concept, Segmented(images, {}))
        segmented.masks[phase.value] = entry.record["masks"]
        return Outcome.from_json(entry.record["outcome"])

    def _segmenter(self, concept: Concept, weights: Weights) -> Segmenter:
        signed = signature([self.fingerprint, self.model.device.type, weights.key])
        return Segmenter(self.model, signed, self.benchmark.text(concept), self.sam,
                         self.benchmark.components, self.benchmark.batch_size, self.store,
                         self.progress)

    def _readable(self, pairs: MaskedImages) -> tuple[MaskedImages, list[str]]:
        """Return the pairs that can be read, and the files that cannot; looked at once."""
        key = signature([VERSION, str(pairs.root), pairs.fingerprint(),
                         self.benchmark.on_bad_image])
        entry = self.store.fetch(READABLE, key)
        if entry is None:
            with self.progress("Reading images and masks", len(pairs)) as bar:
                good, skipped = readable(pairs, self.benchmark.on_bad_image, bar.advance)
            entry = self.store.commit(READABLE, key, {"good": good, "skipped": skipped})
        return pairs.take(entry.record["good"]), entry.record["skipped"]

    def _tuned(self, segmenter: Segmenter, images: MaskedImages) -> M2IBSettings:
        if not len(images):
            return self.benchmark.m2ib
        return tune(segmenter, images, self.benchmark.m2ib, self.benchmark.tune)

    def _scores(self, concept: Concept, phase: Phase, images: MaskedImages,
                masks: Sequence[str]) -> list[ImageScore]:
        scores = []
        with self.progress(f"Scoring {concept.name}", len(images)) as bar:
            for index, mask in enumerate(masks_in(self.store, masks)):
                found = overlap(images.mask(index), mask, self.benchmark.nsd,
                                self.benchmark.tolerance)
                scores += [ImageScore(phase.value, concept.name, images.name(index), metric, value)
                           for metric, value in found._asdict().items()]
                bar.advance()
        return scores


def _means(scores: Sequence[ImageScore]) -> list[MetricRow]:
    """Return the mean over images of each metric."""
    values: dict[str, list[float]] = {}
    for score in scores:
        values.setdefault(score.metric, []).append(score.value)
    first = scores[0]
    return [MetricRow(first.phase, first.concept, "target", metric, fmean(of_metric), None,
                      len(of_metric)) for metric, of_metric in values.items()]
