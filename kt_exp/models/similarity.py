"""How a dual encoder scores images against captions: shared by all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kt_exp.models.protocol import DualEncoder, Scorer


def embedding_scorer(model: DualEncoder, captions: Sequence[str], distance: str) -> Scorer:
    """Return images `(B, 3, H, W)` → scores `(B,)` against B captions, which are encoded once.

    `cosine`, or the negative distance of the embeddings: `l2` of unit-norm ones (Kazemi et al.
    2024), `l2_unnormalized` of those as they come (authors' script).
    """
    unit = distance != "l2_unnormalized"
    distinct = list(dict.fromkeys(captions))
    with torch.no_grad():
        encoded = model.encode_text(distinct, normalize=unit)
    texts = encoded[[distinct.index(caption) for caption in captions]]

    def score(images: Tensor) -> Tensor:
        features = model.encode_image(images, normalize=unit)
        if distance == "cosine":
            return (features * texts).sum(-1)
        return -(features - texts).norm(dim=-1)

    return score
