"""The closed-form stage: edits the last linear map for a group of concepts, through the store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from kt_exp.finetune.closed_form import known_metric, mean_direction, projection_edit
from kt_exp.finetune.settings import EditSettings
from kt_exp.finetune.stage import KIND
from kt_exp.finetune.strength import KnownItems, strengths_within_budget
from kt_exp.models.last_map import edited, last_map
from kt_exp.models.protocol import DualEncoder
from kt_exp.store import Entry, Store, signature

log = logging.getLogger(__name__)

VERSION = 2
_AT_ONCE = 64  # texts

Prompts = list[list[str]]


@dataclass(frozen=True)
class EditTexts:
    """The texts that an edit is computed from.

    Attributes:
        names: the prompts of each concept's name, as the benchmark asks for it.
        targets: the texts that each name shall score like; their mean counts.
        known: the prompts of each known class.
        others: the prompts of each name that stands for all that is not listed; may be empty.
        protected: the prompts of each name whose score shall stay exactly as it is; may be empty.
    """

    names: Prompts
    targets: Prompts
    known: Prompts
    others: Prompts
    protected: Prompts


@dataclass(frozen=True)
class Budget:
    """The items that a budgeted strength must not lose, and `key`, a hash of what they are."""

    items: Callable[[], KnownItems]
    key: str


def edit_signature(model_fingerprint: str, device: torch.device, texts: EditTexts,
                   settings: EditSettings, budget: Budget | None) -> str:
    """Return the store key of the edited weights: a hash of all that can change them."""
    decides: dict[str, Any] = {"ridge": settings.ridge, "strength": settings.strength}
    if texts.others:
        decides["others_weight"] = settings.others_weight
    if budget:
        decides |= {"budget": settings.budget, "least": settings.least, "most": settings.most,
                    "items": budget.key}
    return signature(["edit", VERSION, model_fingerprint, device.type, asdict(texts), decides])


def edit(model: DualEncoder, key: str, texts: EditTexts, settings: EditSettings, store: Store,
         embed: Callable[[Prompts], Tensor], budget: Budget | None) -> Entry:
    """Return the entry of `key`: tensors are the weights that the edit changes.

    Its record has the strength of each concept. The model itself is left as it was.

    Args:
        embed: returns the embedding of each class, `(C, D)`, unit norm, of its prompts.
        budget: with `strength: budget`.

    Raises:
        UserError: the model has no last linear map, or its text encoder cannot tell names apart.
    """
    def compute() -> Entry:
        names, targets = (embedded(model, prompts) for prompts in (texts.names, texts.targets))
        protected = embedded(model, texts.protected) if texts.protected else None
        metric = known_metric(embed(texts.known), settings.ridge,
                              embed(texts.others) if texts.others else None,
                              settings.others_weight)
        if budget:
            strengths = budgeted_strengths(budget.items(), names, targets, metric, settings,
                                           protected)
        else:
            strengths = torch.tensor([settings.strength] * len(names), dtype=torch.float64)
        found = projection_edit(names, targets, metric, strengths, protected)
        return Entry({"steps": [], "loss": [], "strengths": strengths.tolist()},
                     edited(model, last_map(model), found.directions, found.readings))

    return store.get_or_compute(KIND, key, compute)


def budgeted_strengths(items: KnownItems, names: Tensor, targets: Tensor, metric: Tensor,
                       settings: EditSettings, protected: Tensor | None) -> Tensor:
    """Return the strength of each name with `strength: budget`, `(M,)`, float64, in least … most.

    It warns where `least` exceeds what the budget allows.

    Args:
        items, names, targets, metric, protected: as for `strengths_within_budget`.
    """
    allowed = strengths_within_budget(items, names, targets, metric, settings.budget,
                                      settings.most, protected)
    strengths = allowed.clamp(min=settings.least)
    if (strengths > allowed).any():
        log.warning("finetune.edit.budget: strength %.2f would keep it; %g is taken "
                    "(finetune.edit.least)", float(allowed.min()), settings.least)
    return strengths


@torch.no_grad()
def embedded(model: DualEncoder, prompts: Sequence[Sequence[str]]) -> Tensor:
    """Return the mean direction of each name's prompts, `(N, D)`, float64, on the CPU, N ≥ 1."""
    texts = [text for of_one in prompts for text in of_one]
    encoded = torch.cat([model.encode_text(texts[start:start + _AT_ONCE]).cpu()
                         for start in range(0, len(texts), _AT_ONCE)])
    return torch.stack([mean_direction(of_one)
                        for of_one in encoded.split([len(of_one) for of_one in prompts])])
