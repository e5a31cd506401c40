"""How strongly a closed-form edit may be made: the largest strengths within a forgetting budget.

An edit's scores are linear in its strength, so each known item is classified right in one interval
of strengths. The intervals' ends say exactly how many items are lost at any strength.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kt_exp.finetune.closed_form import edit_directions, edit_readings


@dataclass(frozen=True)
class KnownItems:
    """What shall still be classified right: images of known classes, or stand-ins for them.

    Attributes:
        embeddings: `(N, D)`, of any norm.
        labels: the class of each, `(N,)`.
        classes: embeddings of the known classes, `(C, D)`, unit norm.
    """

    embeddings: Tensor
    labels: Tensor
    classes: Tensor

    @classmethod
    def from_texts(cls, classes: Tensor) -> KnownItems:
        """Return the classes' own text embeddings `(C, D)` as stand-ins for images of them.

        Texts lie closer to their own class than images do: the strengths that they allow are far
        too large (docs/closed_form.md).
        """
        return cls(classes, torch.arange(len(classes)), classes)


def strengths_within_budget(items: KnownItems, names: Tensor, targets: Tensor, metric: Tensor,
                            budget: float, most: float, protected: Tensor | None = None) -> Tensor:
    """Return the strength of each name, `(M,)`, float64, at which all together keep the budget.

    One name gets the largest strength up to `most` that loses at most `budget` of the items. Lost
    are items that the unedited model classifies right, the names being candidates too. Several
    names share the budget: from strength 1 each goes the same part of the way to the largest
    strength that it would get alone (or stays at 1, if that is less); where strength 1 loses too
    much already, all have the same strength below. Where no strength keeps the budget, the one that
    loses least is returned. The order of the names does not matter.

    Args:
        names, targets, metric, protected: as for `closed_form.projection_edit`.
        budget: share of the items, in [0, 1].
        most: upper bound of a single name's strength, above 0.
    """
    lost = budget * len(items.labels)
    alone = torch.cat([
        _from_zero_to(most, items, names[m:m + 1], targets[m:m + 1],
                      edit_directions(names[m:m + 1], metric, protected), lost)
        for m in range(len(names))])
    if len(names) == 1:
        return alone
    directions, one = edit_directions(names, metric, protected), torch.ones_like(alone)
    beyond = _Path.between(items, names, targets, directions, one, alone.clamp(min=1))
    if beyond.lost_at(0.0) <= lost:
        return one + beyond.farthest(lost) * (alone.clamp(min=1) - one)
    below = _Path.between(items, names, targets, directions, torch.zeros_like(one), one)
    return below.farthest(lost) * one


def _from_zero_to(most: float, items: KnownItems, name: Tensor, target: Tensor,
                  directions: Tensor, lost: float) -> Tensor:
    end = torch.tensor([most], dtype=torch.float64)
    path = _Path.between(items, name, target, directions, torch.zeros_like(end), end)
    return path.farthest(lost) * end


@dataclass(frozen=True)
class _Path:
    """How many items are lost on the way from some strengths (at 0) to others (at 1).

    Attributes:
        begin, end: between which points the items that are ever right are so, each sorted.
        before: how many items the unedited model gets right.
    """

    begin: Tensor
    end: Tensor
    before: int

    @classmethod
    def between(cls, items: KnownItems, names: Tensor, targets: Tensor, directions: Tensor,
                start: Tensor, stop: Tensor) -> _Path:
        """At point x an item's own class beats candidate j where lead_j + x · gain_j > 0."""
        candidates = torch.cat([items.classes, names]).double()
        embeddings, labels = items.embeddings.double(), items.labels[:, None]
        scores = embeddings @ candidates.T
        moved = (candidates @ directions).T  # (M, C + M)
        fixed = scores + embeddings @ edit_readings(names, targets, start).T @ moved
        slope = embeddings @ ((stop - start)[:, None] * targets.double()).T @ moved
        lead = fixed.gather(1, labels) - fixed
        gain = slope.gather(1, labels) - slope
        crossing = -lead / gain  # NaN for the item's own class, which has no rival in itself
        begin = crossing.masked_fill(~(gain > 0), -math.inf).amax(dim=1)
        end = crossing.masked_fill(~(gain < 0), math.inf).amin(dim=1)
        never = ((gain == 0) & (lead < 0)).any(dim=1)
        real = (begin < end) & ~never
        before = int((scores.argmax(dim=1) == items.labels).sum())
        return cls(begin[real].sort().values, end[real].sort().values, before)

    def lost_at(self, point: float) -> int:
        """Return how many items are lost there."""
        return self.before - int(self._right(self.begin.new_tensor([point])))

    def farthest(self, lost: float) -> float:
        """Return the largest point in (0, 1] at which at most `lost` items are lost, or else the
        one at which fewest are."""
        inside = self.end[(self.end > 0) & (self.end <= 1)] * (1 - 1e-9)
        tried = torch.cat([inside, inside.new_ones(1)])
        right = self._right(tried)
        kept = tried[self.before - right <= lost + 1e-9]
        return float(kept.max() if len(kept) else tried[right.argmax()])

    def _right(self, points: Tensor) -> Tensor:
        return torch.searchsorted(self.begin, points) - torch.searchsorted(self.end, points)
