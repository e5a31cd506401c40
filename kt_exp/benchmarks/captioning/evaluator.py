"""Evaluator of captioning: generates captions, scores them, and stores both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch

from kt_exp.benchmarks.captioning.metrics import CaptionMetrics, CaptionScores
from kt_exp.benchmarks.captioning.panels import draw_panels
from kt_exp.benchmarks.embedding import LoaderSettings, image_batches
from kt_exp.concepts import Concept
from kt_exp.data.captioned import CaptionedImages
from kt_exp.errors import UserError
from kt_exp.models.protocol import Captioner, GenerationSettings
from kt_exp.models.weights import FROZEN, Weights
from kt_exp.progress import Bar, Progress
from kt_exp.results.outcome import JOINT, ImageScore, Metric, Outcome, Phase
from kt_exp.store import Store, signature

VERSION = 1
KIND, CAPTIONS = "captioning", "captions"
SAVE_SECONDS = 60.0

Captions = list[str | None]


class CaptioningSettings(LoaderSettings, Protocol):
    """Settings for generating captions and loading images."""

    generation: GenerationSettings


@dataclass
class CaptioningEvaluator:
    """Captions all images and scores the captions.

    Captions and scores are stored separately, so that other metrics need no model. `reused` counts
    the outcomes found in the store.
    """

    model: Captioner
    fingerprint: str
    images: CaptionedImages
    metrics: CaptionMetrics
    settings: CaptioningSettings
    store: Store
    progress: Progress
    reused: int = 0

    def untrained(self, group: Sequence[Concept]) -> list[Outcome]:
        """Return the baseline, which is the same for every group."""
        return [self._outcome(group, Phase.baseline, FROZEN)]

    def transferred(self, group: Sequence[Concept], weights: Weights) -> list[Outcome]:
        """Return the outcome of fine-tuned weights."""
        return [self._outcome(group, Phase.transferred, weights)]

    def image_count(self, group: Sequence[Concept]) -> int:
        """Return the number of images, for any concepts."""
        return len(self.images)

    def outcome_keys(self, group: Sequence[Concept], weights: Weights) -> list[tuple[str, str]]:
        """Return the store's key of the scores by `weights`."""
        return [(KIND, self._scores_key(self._captions_key(weights)))]

    def panels(self, outcomes: Sequence[Outcome], folder: Path) -> dict[str, str]:
        """Draw the images with the best and the worst change in METEOR, captions before and after.

        Returns title → file name in `folder`. Concepts without both phases are left out.
        """
        return draw_panels(self.images, outcomes, folder)

    def _outcome(self, group: Sequence[Concept], phase: Phase, weights: Weights) -> Outcome:
        written = self._captions_key(weights)
        key = self._scores_key(written)
        with self.store.lock(KIND, [key]):
            captions = self._captions(written, phase, weights)
            entry = self.store.fetch(KIND, key)
            self.reused += entry is not None
            scores = CaptionScores(**entry.record) if entry else self._score(captions)
            # Scores with a failed SPICE are not stored: another run may succeed.
            if entry is None and not scores.spice_failure:
                self.store.commit(KIND, key, asdict(scores))
        concept = JOINT if len(group) > 1 else group[0].name
        return self._as_outcome(captions, scores, phase, concept)

    def _scores_key(self, written: str) -> str:
        return signature([VERSION, written, self.metrics.with_spice])

    def _captions_key(self, weights: Weights) -> str:
        generation = self.settings.generation
        # Sampling depends on the batch; beam search does not.
        batch = self.settings.batch_size if generation.method == "sample" else None
        return signature([VERSION, self.fingerprint, self.model.device.type, weights.key,
                          asdict(generation), batch, self.images.fingerprint(),
                          self.settings.on_bad_image])

    def _captions(self, key: str, phase: Phase, weights: Weights) -> Captions:
        """Return a caption for each image, None for unreadable ones.

        Captions are stored every `SAVE_SECONDS`, so that a killed run can resume.
        """
        with self.store.lock(CAPTIONS, [key]):
            entry = self.store.fetch(CAPTIONS, key)
            captions: Captions = entry.record["captions"] if entry else []
            if len(captions) < len(self.images):
                with weights.applied(self.model), \
                        self.progress(f"Captions ({phase.value})", len(self.images)) as bar:
                    bar.advance(len(captions))
                    self._write(captions, key, bar)
        if not any(caption is not None for caption in captions):
            raise UserError("benchmark.image_root", "not one readable image",
                            "check the images that benchmark.captions names")
        return captions

    def _write(self, captions: Captions, key: str, bar: Bar) -> None:
        """Generate the missing captions and append them to `captions`."""
        self.model.module.eval()
        saved = time.monotonic()
        for batch in image_batches(self.model, self.images, self.settings,
                                   self.settings.batch_size, len(captions), self.store):
            size = len(batch.labels) + len(batch.problems)
            new: Captions = [None] * size
            if len(batch.labels):
                with torch.no_grad():
                    generated = self.model.generate(batch.pixels, self.settings.generation)
                for label, caption in zip(batch.labels.tolist(), generated, strict=True):
                    new[label - len(captions)] = caption
            captions += new
            bar.advance(size)
            if time.monotonic() - saved > SAVE_SECONDS:
                self.store.commit(CAPTIONS, key, {"captions": captions})
                saved = time.monotonic()
        self.store.commit(CAPTIONS, key, {"captions": captions})

    def _score(self, captions: Captions) -> CaptionScores:
        pairs = [(caption, references) for caption, references
                 in zip(captions, self.images.captions, strict=True) if caption is not None]
        return self.metrics.score([caption for caption, _ in pairs],
                                  [references for _, references in pairs], self.progress)

    def _as_outcome(self, captions: Captions, scores: CaptionScores, phase: Phase,
                    concept: str) -> Outcome:
        written = [
            (name, caption) for name, caption in zip(self.images.names, captions, strict=True)
            if caption is not None]
        values = {"BLEU@4": scores.bleu4, "METEOR": scores.meteor, "CIDEr": scores.cider,
                  "SPICE": scores.spice}
        why_no_spice = scores.spice_failure or self.metrics.why_no_spice
        return Outcome(
            metrics=[Metric(phase, concept, "all", metric, value, None, len(written))
                     for metric, value in values.items() if value is not None],
            skipped=[str(path) for path, caption in zip(self.images.files, captions, strict=True)
                     if caption is None],
            per_image=[ImageScore(phase, concept, name, "METEOR", value, caption)
                       for (name, caption), value in zip(written, scores.meteor_each, strict=True)],
            notes=[f"SPICE unavailable: {why_no_spice}"] if why_no_spice else [],
        )
