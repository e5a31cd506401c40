"""Evaluator of retrieval: each phase is computed once and stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kt_exp.benchmarks import pairs
from kt_exp.benchmarks.embedding import Embedded, LoaderSettings, embed_images, text_classifier
from kt_exp.benchmarks.retrieval.metrics import Ranks, Rows, find_ranks
from kt_exp.concepts import Concept
from kt_exp.data.captioned import CaptionedImages
from kt_exp.models.protocol import DualEncoder, PairMatcher
from kt_exp.models.weights import FROZEN, Weights
from kt_exp.progress import Progress
from kt_exp.results.outcome import JOINT, Metric, Outcome, Phase
from kt_exp.store import Entry, Store, signature

VERSION = 2
KIND, EMBEDDINGS = "retrieval", "embeddings"


class RetrievalSettings(LoaderSettings, Protocol):
    """The K of Recall@K, and settings for loading images."""

    ks: list[int]


class Scores(NamedTuple):
    """Scores of the readable images with their captions, computed in blocks of rows.

    Attributes:
        by_image: returns rows of the scores `(I, T)` of images with captions.
        by_caption: returns rows of the transposed scores, `(T, I)`.
        images: index of each of the I images in the set, `(I,)`.
        owners: index of the image of each of the T captions, `(T,)`.
        skipped: paths of unreadable images; their captions are left out too.
    """

    by_image: Rows
    by_caption: Rows
    images: Tensor
    owners: Tensor
    skipped: list[str]


@dataclass
class RetrievalEvaluator:
    """Retrieves by embeddings (dual encoders) or by the scores of all pairs (pair matchers).

    The ranks are stored, so that other `ks` need no model. `reused` counts the outcomes found in
    the store.
    """

    model: DualEncoder | PairMatcher
    fingerprint: str
    images: CaptionedImages
    settings: RetrievalSettings
    store: Store
    progress: Progress
    reused: int = 0

    def untrained(self, group: Sequence[Concept]) -> list[Outcome]:
        """Return the baseline, which is the same for every group."""
        return [self._outcome(_name(group), Phase.baseline, FROZEN)]

    def transferred(self, group: Sequence[Concept], weights: Weights) -> list[Outcome]:
        """Return the outcome of fine-tuned weights."""
        return [self._outcome(_name(group), Phase.transferred, weights)]

    def image_count(self, group: Sequence[Concept]) -> int:
        """Return the number of images, for any concepts."""
        return len(self.images)

    def outcome_keys(self, group: Sequence[Concept], weights: Weights) -> list[tuple[str, str]]:
        """Return the store's key of the ranks by `weights`."""
        return [(KIND, self._ranks_key(weights))]

    def panels(self, outcomes: Sequence[Outcome], folder: Path) -> dict[str, str]:
        """Return no panels: retrieval draws no pictures."""
        return {}

    def _outcome(self, concept: str, phase: Phase, weights: Weights) -> Outcome:
        key = self._ranks_key(weights)
        entry = self.store.get_or_compute(KIND, key, lambda: self._measure(key, weights))
        self.store.discard(pairs.KIND, key)
        self.reused += entry.found
        text = Ranks(entry.tensors["text_rank"], entry.tensors["text_tied"])
        image = Ranks(entry.tensors["image_rank"], entry.tensors["image_tied"])
        metrics = [
            Metric(phase, concept, "all", f"{kind}_R@{k}", ranks.hits(k) / len(ranks.rank),
                   ranks.hits(k), len(ranks.rank))
            for kind, ranks in (("text", text), ("image", image)) for k in self.settings.ks
        ]
        notes = [*entry.record["notes"], *_notes(text, image, self.settings.ks)]
        return Outcome(metrics, skipped=entry.record["skipped"], notes=notes)

    def _ranks_key(self, weights: Weights) -> str:
        of_pairs = [pairs.VERSION] if isinstance(self.model, PairMatcher) else []
        return self._key(KIND, weights.key, self._set_key, *of_pairs)

    def _measure(self, key: str, weights: Weights) -> Entry:
        with weights.applied(self.model):
            if isinstance(self.model, PairMatcher):
                scores = self._score_pairs(self.model, key)
            else:
                scores = self._compare_embeddings(self.model, weights)
        text = find_ranks(scores.by_image, scores.images, scores.owners, self.progress,
                          "Ranking captions")
        image = find_ranks(scores.by_caption, scores.owners, scores.images, self.progress,
                           "Ranking images")
        return Entry({"skipped": scores.skipped, "notes": self._long_captions()},
                     {"text_rank": text.rank, "text_tied": text.tied,
                      "image_rank": image.rank, "image_tied": image.tied})

    def _score_pairs(self, model: PairMatcher, key: str) -> Scores:
        scored = pairs.score_pairs(model, self.images, self._texts, self.settings, self.store,
                                   key, self.progress, "Matching images and captions")
        readable = torch.isin(self._owners, scored.labels)
        scores, texts = scored.scores, self._text_of[readable]
        return Scores(lambda block: scores[block][:, texts], lambda block: scores.T[texts[block]],
                      scored.labels, self._owners[readable], scored.skipped)

    def _compare_embeddings(self, model: DualEncoder, weights: Weights) -> Scores:
        text_parameters = model.towers()["text"].keys()
        images = self._embedded_images(model, weights.changes.keys() <= text_parameters)
        of_texts = self._embedded_texts(model, not weights.changes.keys() & text_parameters)
        readable = torch.isin(self._owners, images.labels)
        of_images, texts = images.embeddings, self._text_of[readable]
        return Scores(lambda block: (of_images[block] @ of_texts.T)[:, texts],
                      lambda block: of_texts[texts[block]] @ of_images.T, images.labels,
                      self._owners[readable], images.skipped)

    def _embedded_images(self, model: DualEncoder, frozen: bool) -> Embedded:
        def compute() -> Entry:
            embedded = embed_images(model, self.images, self.settings, self.progress,
                                    "Embedding images", store=self.store)
            return Entry({"skipped": embedded.skipped},
                         {"embeddings": embedded.embeddings, "labels": embedded.labels})

        entry = self.store.get_or_compute(EMBEDDINGS, self._key("images", self._set_key), compute)\
            if frozen else compute()
        return Embedded(entry.tensors["embeddings"], entry.tensors["labels"],
                        entry.record["skipped"])

    def _embedded_texts(self, model: DualEncoder, frozen: bool) -> Tensor:
        def compute() -> Entry:
            return Entry({}, {"captions": text_classifier(
                model, [[text] for text in self._texts], self.settings.batch_size,
                self.progress, "Encoding captions")})

        entry = self.store.get_or_compute(EMBEDDINGS, self._key("captions", self._texts), compute)\
            if frozen else compute()
        return entry.tensors["captions"]

    @cached_property
    def _set_key(self) -> list[str]:
        return [self.images.fingerprint(), self.settings.on_bad_image]

    @cached_property
    def _captions(self) -> list[str]:
        return [caption for of_image in self.images.captions for caption in of_image]

    @cached_property
    def _texts(self) -> list[str]:
        """The distinct captions.

        A caption of several images is encoded once: its copies have to tie exactly, but rounding
        depends on the batch that a caption is encoded in.
        """
        return list(dict.fromkeys(self._captions))

    @cached_property
    def _text_of(self) -> Tensor:
        """Index of each caption in `_texts`, `(T,)`."""
        number = {text: index for index, text in enumerate(self._texts)}
        return torch.tensor([number[caption] for caption in self._captions])

    @cached_property
    def _owners(self) -> Tensor:
        counts = torch.tensor([len(of_image) for of_image in self.images.captions])
        return torch.arange(len(self.images)).repeat_interleave(counts)

    def _key(self, *inputs: object) -> str:
        return signature([VERSION, self.fingerprint, self.model.device.type, *inputs])

    def _long_captions(self) -> list[str]:
        limit = self.model.max_text_tokens
        cut = sum(self.model.count_tokens(caption) > limit for caption in self._captions)
        return [f"{cut} of {len(self._captions)} captions cut to the model's {limit} tokens"] \
            if cut else []


def _name(group: Sequence[Concept]) -> str:
    return JOINT if len(group) > 1 else group[0].name


def _notes(text: Ranks, image: Ranks, ks: Sequence[int]) -> list[str]:
    """Return notes on exact ties, and on a K that is no smaller than the number of images."""
    notes = [
        f"{kind} retrieval: {int(ranks.tied.sum())} of {len(ranks.tied)} queries have a wrong "
        "candidate that scores exactly as the best right one; it counts as better"
        for kind, ranks in (("text", text), ("image", image)) if ranks.tied.any()
    ]
    images = len(text.rank)
    return notes + [f"image_R@{k} is 1 for any model: there are {images} images"
                    for k in ks if k >= images]
