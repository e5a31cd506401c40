"""Margins: how far a concept's score lies above the best other candidate's, image by image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Margins:
    """What decides between a concept and the other candidates, for N images.

    With γ added to the concept's score an image is the concept's where its margin is above −γ. A
    tie goes to the first of the equals, as everywhere: to a known class before a concept. Where
    the concept comes first, its margin is the next larger number.

    Attributes:
        values: the concept's score − the best other score, float64 `(N,)`. With several own
            candidates their best score.
        best_own: index of the best own candidate `(N,)`.
        best_other: index of the best candidate that is not the concept's own `(N,)`.
        best_known: index of the best candidate that is no concept taught `(N,)`.
        known_classes: candidates that are no concept taught.
    """

    values: Tensor
    best_own: Tensor
    best_other: Tensor
    best_known: Tensor
    known_classes: int

    def taken_for(self, gamma: float = 0.0) -> Tensor:
        """Return the index of the candidate that each image is taken for `(N,)`, under γ.

        γ is compared with the float64 margins, not added to scores, which would round it.
        """
        return torch.where(self.values > -gamma, self.best_own, self.best_other)

    def __getitem__(self, images: Tensor) -> Margins:
        """Return the margins of some images, chosen by a mask or by indices."""
        return Margins(self.values[images], self.best_own[images], self.best_other[images],
                       self.best_known[images], self.known_classes)


def score_margins(scores: Tensor, own: Sequence[int], taught: Sequence[int]) -> Margins:
    """Return the margins of images from their scores with every candidate.

    For one concept `own` is its index alone, and the other concepts of the same model stay
    competitors, with their scores as they are. With `own` equal to `taught` all concepts share γ.

    Args:
        scores: `(N, C)`, the higher the likelier.
        own: indices of the candidates that γ is added to.
        taught: indices of all concepts among the candidates; the others are known classes.

    Raises:
        ValueError: no candidate beside `own`, no known class, or `own` not among `taught`.
    """
    known = sorted(set(range(scores.shape[1])) - set(taught))
    if not known or not own or not set(own) <= set(taught):
        raise ValueError(f"candidates {list(own)} of {list(taught)} taught, {len(known)} known")
    own_score, best_own = _best(scores, own)
    other_score, best_other = _best(scores, set(range(scores.shape[1])) - set(own))
    values = own_score.double() - other_score.double()
    above = torch.nextafter(values, torch.full_like(values, torch.inf))
    values = torch.where(best_own < best_other, above, values)
    return Margins(values, best_own, best_other, _best(scores, known)[1], len(known))


def embedding_margins(embeddings: Tensor, candidates: Tensor, own: Sequence[int],
                      taught: Sequence[int]) -> Margins:
    """Return the margins of images in cosine similarity, computed a block of images at a time.

    Args:
        embeddings: of the images, unit norm `(N, D)`.
        candidates: unit norm `(C, D)`.
        own, taught: as in `score_margins`.
    """
    parts = [score_margins(some @ candidates.T, own, taught)
             for some in embeddings.split(ROWS_AT_ONCE)]
    return Margins(torch.cat([part.values for part in parts]),
                   torch.cat([part.best_own for part in parts]),
                   torch.cat([part.best_other for part in parts]),
                   torch.cat([part.best_known for part in parts]), parts[0].known_classes)


def _best(scores: Tensor, among: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Return the best score of some candidates and its index, of equals the first, both `(N,)`."""
    columns = torch.tensor(sorted(among), device=scores.device)
    best, position = scores[:, columns].max(dim=1)
    return best, columns[position]
