"""Recall@K of image–text retrieval, computed from scores in blocks of queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kt_exp.errors import UserError
from kt_exp.progress import Progress

QUERIES_AT_ONCE = 256

Rows = Callable[[slice], Tensor]


class Ranks(NamedTuple):
    """The rank of each query's best positive.

    Attributes:
        rank: rank of the best positive, from 1, int64 `(Q,)`.
        tied: whether a negative has exactly the score of the best positive, bool `(Q,)`.
    """

    rank: Tensor
    tied: Tensor

    def hits(self, k: int) -> int:
        """Return how many queries have a positive among the first `k` candidates."""
        return int((self.rank <= k).sum())


def find_ranks(scores: Rows, queries: Tensor, candidates: Tensor, progress: Progress,
               description: str) -> Ranks:
    """Return the rank of the best positive of every query.

    A candidate is a positive of a query if both have the same owner (image index). The rank is 1 +
    the number of negatives that score at least as high as the best positive. Exact ties thus count
    against the model: one that gives all candidates the same score finds nothing.

    Args:
        scores: returns the scores `(B, C)` of a block of queries with all candidates.
        queries: owner of each query, `(Q,)`.
        candidates: owner of each candidate, `(C,)`; each query must have a positive.

    Raises:
        UserError: scores that are not finite.
    """
    ranks, ties = [], []
    with progress(description, len(queries)) as bar:
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            block = slice(start, start + QUERIES_AT_ONCE)
            rank, tied = _ranks(scores(block), queries[block, None] == candidates)
            ranks.append(rank)
            ties.append(tied)
            bar.advance(len(rank))
    return Ranks(torch.cat(ranks), torch.cat(ties))


def _ranks(scores: Tensor, positive: Tensor) -> Ranks:
    if not scores.isfinite().all():
        raise UserError("model", "scores of images and captions are not finite",
                        "lower finetune.lr, or set precision=fp32")
    best = scores.masked_fill(~positive, -torch.inf).amax(dim=1, keepdim=True)
    tied = (scores == best) & ~positive
    return Ranks(1 + (scores > best).sum(dim=1) + tied.sum(dim=1), tied.any(dim=1))
