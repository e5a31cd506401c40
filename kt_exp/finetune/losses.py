"""Losses that align images with captions, on unit-norm embeddings `(B, D)`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ntxent(images: Tensor, texts: Tensor, temperature: Tensor | float) -> Tensor:
    """Return the NT-Xent loss over the 2B stacked embeddings (authors' script), a scalar.

    The positive of an anchor is its pair; its negatives are all others, including those of its own
    modality (Chen et al. 2020, Eq. 1). With one concept all captions are the same, and only the
    same-modality negatives give a useful gradient.
    """
    stacked = torch.cat([images, texts])
    logits = stacked @ stacked.T / temperature
    logits = logits.masked_fill(torch.eye(len(stacked), dtype=torch.bool, device=logits.device),
                                float("-inf"))
    positives = torch.arange(len(stacked), device=logits.device).roll(len(images))
    return F.cross_entropy(logits, positives)


def clip(images: Tensor, texts: Tensor, temperature: Tensor | float) -> Tensor:
    """Return CLIP's symmetric InfoNCE over in-batch negatives (Radford et al. 2021), a scalar."""
    logits = images @ texts.T / temperature
    pairs = torch.arange(len(images), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def class_ce(images: Tensor, texts: Tensor, temperature: Tensor | float,
             negatives: Tensor) -> Tensor:
    """Return the image→text cross-entropy of each pair against known classes, a scalar.

    `negatives` `(K, D)` are the embeddings of the classes' prompts.
    """
    positive = (images * texts).sum(-1, keepdim=True)
    logits = torch.cat([positive, images @ negatives.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(images), dtype=torch.long, device=logits.device))
