"""Scores of all image–caption pairs by a pair matcher (ViLT), which sees both at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kt_exp.benchmarks.embedding import ImageBatch, LoaderSettings, image_batches
from kt_exp.benchmarks.protocol import ImageSet
from kt_exp.errors import UserError
from kt_exp.models.protocol import EmbeddedCaptions, PairMatcher
from kt_exp.progress import Bar, Progress
from kt_exp.store import Store

VERSION = 2
KIND = "pair_scores"
SAVE_SECONDS = 60.0
# Pairs between two chances to save; captions of similar length that are padded together.
PAIRS_AT_ONCE, CAPTIONS_AT_ONCE = 1024, 256


@dataclass(frozen=True)
class PairScores:
    """Scores of all readable images with all captions, on the CPU.

    Attributes:
        scores: as `match_block` returns them, fp32, `(I, T)`.
        labels: label of each image, int64, `(I,)`.
        skipped: paths of the images left out because they could not be read.
    """

    scores: Tensor
    labels: Tensor
    skipped: list[str]


def score_pairs(model: PairMatcher, images: ImageSet, captions: Sequence[str],
                settings: LoaderSettings, store: Store, key: str, progress: Progress,
                description: str) -> PairScores:
    """Return the score of every image with every caption. Leaves the model in eval mode.

    Each image's patches and each caption's tokens are embedded once. Finished rows are stored every
    `SAVE_SECONDS` under `key`, so that a killed run can resume. `key` must be a signature of model,
    images and captions. The scores stay in the store until the caller calls
    `store.discard(KIND, key)`.

    Raises:
        UserError: an unreadable image under `on_bad_image: error`, no readable image, or
            scores that are not finite.
    """
    with store.lock(KIND, [key]):
        rows = _Rows.stored(store, key)
        if rows.seen < len(images):
            left = (len(images) - rows.seen) * len(captions)
            with torch.no_grad(), progress(description, left) as bar:
                _score(model, images, captions, settings, store, key, rows, bar)
        found = rows.joined()
    if not len(found.labels):
        raise UserError(description, "not one readable image", "check the benchmark's folders")
    if not found.scores.isfinite().all():
        store.discard(KIND, key)
        raise UserError("model", f"{description}: scores are not finite",
                        "lower finetune.lr, or set precision=fp32")
    return found


def _score(model: PairMatcher, images: ImageSet, captions: Sequence[str],
           settings: LoaderSettings, store: Store, key: str, rows: _Rows, bar: Bar) -> None:
    model.module.eval()
    blocks, position = _blocks(model, captions)
    at_once = min(settings.batch_size, max(1, PAIRS_AT_ONCE // len(captions)))
    saved = time.monotonic()
    for batch in image_batches(model, images, settings, at_once, rows.seen, store):
        bar.advance(len(batch.problems) * len(captions))
        scores = torch.empty(0, len(captions), device=model.device)
        if len(batch.labels):
            embedded = model.embed_images(batch.pixels)
            parts = []
            for block in blocks:
                parts.append(model.match_block(embedded, block))
                bar.advance(parts[-1].numel())
            scores = torch.cat(parts, dim=1)[:, position]
        rows.add(batch, scores)
        if time.monotonic() - saved > SAVE_SECONDS:
            rows.save(store, key)
            saved = time.monotonic()
    rows.save(store, key)


def _blocks(model: PairMatcher, captions: Sequence[str]) -> tuple[list[EmbeddedCaptions], Tensor]:
    """Return blocks of embedded captions, short ones first, and each caption's column in them.

    Captions of similar length share a block: in a single block all would be padded to the longest.
    """
    lengths = [min(model.count_tokens(caption), model.max_text_tokens) for caption in captions]
    order = torch.tensor(lengths).argsort(stable=True)
    blocks = [model.embed_captions([captions[i] for i in indices.tolist()])
              for indices in order.split(CAPTIONS_AT_ONCE)]
    return blocks, order.argsort().to(model.device)


@dataclass
class _Rows:
    """The rows computed so far: those of the first `seen` images, without the skipped ones."""

    scores: list[Tensor]
    labels: list[Tensor]
    skipped: list[str]
    seen: int

    @classmethod
    def stored(cls, store: Store, key: str) -> _Rows:
        if entry := store.fetch(KIND, key):
            return cls([entry.tensors["scores"]], [entry.tensors["labels"]],
                       entry.record["skipped"], entry.record["seen"])
        return cls([], [], [], 0)

    def add(self, batch: ImageBatch, scores: Tensor) -> None:
        # Scores stay on the device until saved: a copy per batch would stall the next batch.
        self.scores.append(scores.float())
        self.labels.append(batch.labels)
        self.skipped += [path for path, _, _ in batch.problems]
        self.seen += len(batch.labels) + len(batch.problems)

    def save(self, store: Store, key: str) -> None:
        found = self.joined()
        self.scores, self.labels = [found.scores], [found.labels]
        store.commit(KIND, key, {"seen": self.seen, "skipped": self.skipped},
                     {"scores": found.scores, "labels": found.labels})

    def joined(self) -> PairScores:
        scores = torch.cat([part.cpu() for part in self.scores])
        return PairScores(scores, torch.cat(self.labels), self.skipped)
