"""Scores of images against captions, for every dual encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kt_exp.models.protocol import DualEncoder, Scorer


def embedding_scorer(model: DualEncoder, captions: Sequence[str], distance: str) -> Scorer:
    """Return images `(B, 3, H, W)` → scores `(B,)` against B captions, which are encoded once.

    `cosine`, or the negative distance of the embeddings: `l2` with unit norm (Kazemi et al. 2024),
    `l2_unnormalized` without (authors' script).
    """
    closeness, unit = embedding_closeness(model, captions, distance), of_unit_norm(distance)
    return lambda images: closeness(model.encode_image(images, normalize=unit))


def of_unit_norm(distance: str) -> bool:
    """Return whether the distance is one between unit-norm embeddings."""
    return distance != "l2_unnormalized"


def embedding_closeness(model: DualEncoder, captions: Sequence[str],
                        distance: str) -> Callable[[Tensor], Tensor]:
    """Return image embeddings `(B, D)` → scores `(B,)`, as `embedding_scorer`.

    The embeddings have unit norm if `of_unit_norm(distance)`.
    """
    distinct = list(dict.fromkeys(captions))
    with torch.no_grad():
        encoded = model.encode_text(distinct, normalize=of_unit_norm(distance))
    texts = encoded[[distinct.index(caption) for caption in captions]]

    def closeness(features: Tensor) -> Tensor:
        if distance == "cosine":
            return (features * texts).sum(-1)
        return -(features - texts).norm(dim=-1)

    return closeness
