"""Margins: a concept's score minus the best other candidate's, for each image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kt_exp.results.predictions import TOP

ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Ranking:
    """The K ≤ 5 candidates with the highest scores, best first.

    Indices, scores and probabilities (softmax over all candidates), each `(N, K)`.
    """

    top: Tensor
    scores: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class Margins:
    """Margins of N images between a concept and the other candidates.

    With γ added to the concept's score, an image is assigned to the concept if its margin is above
    −γ. Ties go to the first candidate: known classes come before concepts. Where the concept comes
    first, its margin is raised to the next float64, so that it wins a tie.

    Attributes:
        values: the concept's score minus the best other score, float64 `(N,)`. With several own
            candidates, the best of their scores counts.
        best_own: index of the best own candidate `(N,)`.
        best_other: index of the best candidate that is not the concept's own `(N,)`.
        best_known: index of the best known class `(N,)`.
        known_classes: number of candidates that are known classes.
        ranking: the likeliest candidates of each image, if they were kept.
    """

    values: Tensor
    best_own: Tensor
    best_other: Tensor
    best_known: Tensor
    known_classes: int
    ranking: Ranking | None = None

    def taken_for(self, gamma: float = 0.0) -> Tensor:
        """Return the index of the candidate that each image is assigned to `(N,)`, with γ.

        γ is compared with the float64 margins: added to the scores it would be rounded.
        """
        return torch.where(self.values > -gamma, self.best_own, self.best_other)

    def __getitem__(self, images: Tensor) -> Margins:
        """Return the margins of the images that a mask or indices select."""
        return Margins(self.values[images], self.best_own[images], self.best_other[images],
                       self.best_known[images], self.known_classes)


def score_margins(scores: Tensor, own: Sequence[int], concepts: Sequence[int],
                  scale: float = 1.0) -> Margins:
    """Return the margins of images from their scores with every candidate.

    For one concept, `own` holds its index alone; the model's other concepts compete with unchanged
    scores. If `own` equals `concepts`, all concepts share γ.

    Args:
        scores: `(N, C)`; higher is more likely.
        own: indices of the candidates to which γ is added.
        concepts: indices of all concepts among the candidates; the others are known classes.
        scale: what turns scores into logits, for the probabilities alone; 1: they are logits.

    Raises:
        ValueError: no candidate beside `own`, no known class, or `own` not among `concepts`.
    """
    known = sorted(set(range(scores.shape[1])) - set(concepts))
    if not known or not own or not set(own) <= set(concepts):
        raise ValueError(f"candidates {list(own)} of concepts {list(concepts)}, {len(known)} known")
    own_score, best_own = _best(scores, own)
    other_score, best_other = _best(scores, set(range(scores.shape[1])) - set(own))
    values = own_score.double() - other_score.double()
    above = torch.nextafter(values, torch.full_like(values, torch.inf))
    values = torch.where(best_own < best_other, above, values)
    best = scores.topk(min(TOP, scores.shape[1]), dim=1)
    probabilities = (scale * scores).softmax(dim=1).gather(1, best.indices)
    return Margins(values, best_own, best_other, _best(scores, known)[1], len(known),
                   Ranking(best.indices, best.values, probabilities))


def embedding_margins(embeddings: Tensor, candidates: Tensor, own: Sequence[int],
                      concepts: Sequence[int], scale: float = 1.0) -> Margins:
    """Return the margins of images in cosine similarity, computed in blocks of images.

    Args:
        embeddings: image embeddings, unit norm `(N, D)`.
        candidates: candidate embeddings, unit norm `(C, D)`.
        own, concepts, scale: as in `score_margins`.
    """
    parts = [score_margins(block @ candidates.T, own, concepts, scale)
             for block in embeddings.split(ROWS_AT_ONCE)]
    rankings = [part.ranking for part in parts if part.ranking]
    return Margins(torch.cat([part.values for part in parts]),
                   torch.cat([part.best_own for part in parts]),
                   torch.cat([part.best_other for part in parts]),
                   torch.cat([part.best_known for part in parts]), parts[0].known_classes,
                   Ranking(torch.cat([ranking.top for ranking in rankings]),
                           torch.cat([ranking.scores for ranking in rankings]),
                           torch.cat([ranking.probabilities for ranking in rankings])))


def _best(scores: Tensor, among: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Return the best score among some candidates and its (first) index, both `(N,)`."""
    columns = torch.tensor(sorted(among), device=scores.device)
    best, position = scores[:, columns].max(dim=1)
    return best, columns[position]
