"""How strongly a closed-form edit may be made: the largest strength within a forgetting budget.

An edit's scores are linear in its strength, so each known item is classified right in one interval
of strengths. The intervals' ends say exactly how many items are lost at any strength.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kt_exp.finetune.closed_form import ProjectionEdit, edit_readings

_HALVINGS = 12


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

        Texts lie closer to their own class than images do: the strengths that they allow are an
        upper bound, to be used with a margin (docs/closed_form.md).
        """
        return cls(classes, torch.arange(len(classes)), classes)


def largest_strength(items: KnownItems, names: Tensor, targets: Tensor, directions: Tensor,
                     budget: float, most: float) -> float:
    """Return the largest strength in (0, most] that loses at most `budget` of the items.

    Lost are items that the unedited model classifies right, the names being candidates too. Where
    no strength keeps the budget, the one that loses least is returned.

    Args:
        names, targets: embeddings `(M, D)`, as for `closed_form.projection_edit`.
        directions: those of the edit, `(D, M)`.
        budget: share of the items, in [0, 1].
        most: upper bound, above 0.
    """
    candidates = torch.cat([items.classes, names]).double()
    begin, end = _intervals(items, names, targets, directions, candidates)
    tried = torch.cat([end[(end > 0) & (end <= most)] * (1 - 1e-9), end.new_tensor([most])])
    right = _covering(tried, begin, end)
    kept = tried[right >= _needed(items, candidates, budget)]
    return float(kept.max() if len(kept) else tried[right.argmax()])


def strengths_within_budget(items: KnownItems, names: Tensor, targets: Tensor, directions: Tensor,
                            budget: float, most: float) -> Tensor:
    """Return a strength of each name, `(M,)`, float64, such that all together keep the budget.

    Each name gets the largest strength at which it loses a certain share of the items by itself.
    That share is the same for all, and the largest at which the joint edit keeps `budget`; so the
    order of the names does not matter. The smallest share that is tried is `budget / M`, whether
    or not the joint edit then keeps the budget.
    """
    def of_share(share: float) -> Tensor:
        return torch.tensor([
            largest_strength(items, names[m:m + 1], targets[m:m + 1], directions[:, m:m + 1],
                             share, most) for m in range(len(names))], dtype=torch.float64)

    candidates = torch.cat([items.classes, names]).double()
    needed = _needed(items, candidates, budget)
    low, high = budget / len(names), budget
    best = of_share(low)
    if len(names) == 1:
        return best
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        strengths = of_share(middle)
        edit = ProjectionEdit(directions.double(), edit_readings(names, targets, strengths))
        if _right(edit.apply(items.embeddings), items.labels, candidates) >= needed:
            low, best = middle, strengths
        else:
            high = middle
    return best


def _intervals(items: KnownItems, names: Tensor, targets: Tensor, directions: Tensor,
               candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Return the strengths between which each item is classified right, two tensors `(N,)`.

    At strength w an item's own class beats candidate j where lead_j + w · gain_j > 0.
    """
    embeddings, labels = items.embeddings.double(), items.labels[:, None]
    moved = candidates @ directions.double()  # (C + M, M)
    fixed = embeddings @ candidates.T - (embeddings @ names.double().T) @ moved.T
    slope = (embeddings @ targets.double().T) @ moved.T
    lead = fixed.gather(1, labels) - fixed
    gain = slope.gather(1, labels) - slope
    others = torch.ones_like(lead, dtype=torch.bool).scatter_(1, labels, False)
    crossing = -lead / gain
    begin = crossing.masked_fill(~(others & (gain > 0)), -math.inf).amax(dim=1)
    end = crossing.masked_fill(~(others & (gain < 0)), math.inf).amin(dim=1)
    never = (others & (gain == 0) & (lead < 0)).any(dim=1)
    return begin, end.masked_fill(never, -math.inf)


def _covering(strengths: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Return in how many intervals each strength lies, `(S,)`."""
    real = begin < end
    begun = torch.searchsorted(begin[real].sort().values, strengths)
    return begun - torch.searchsorted(end[real].sort().values, strengths)


def _needed(items: KnownItems, candidates: Tensor, budget: float) -> int:
    """Return how many items must stay right: those that are, less the budget."""
    right = _right(items.embeddings, items.labels, candidates)
    return math.ceil(right - budget * len(items.labels) - 1e-9)


def _right(embeddings: Tensor, labels: Tensor, candidates: Tensor) -> int:
    return int(((embeddings.double() @ candidates.T).argmax(dim=1) == labels).sum())
