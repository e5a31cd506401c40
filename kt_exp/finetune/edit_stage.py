"""The closed-form stage: edits the last linear map for a group of concepts, through the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from kt_exp.finetune.closed_form import known_metric, mean_direction, projection_edit
from kt_exp.finetune.settings import EditSettings
from kt_exp.finetune.stage import KIND
from kt_exp.models.last_map import edited, last_map
from kt_exp.models.protocol import DualEncoder
from kt_exp.store import Entry, Store, signature

VERSION = 1


@dataclass(frozen=True)
class EditTexts:
    """The texts that an edit is computed from.

    Attributes:
        names: the prompts of each concept's name, as the benchmark asks for it.
        targets: the texts that each name shall score like; their mean counts.
        known: the prompts of each known class.
    """

    names: list[list[str]]
    targets: list[list[str]]
    known: list[list[str]]


def edit_signature(model_fingerprint: str, device: torch.device, texts: EditTexts,
                   settings: EditSettings) -> str:
    """Return the store key of the edited weights: a hash of all that can change them."""
    return signature(["edit", VERSION, model_fingerprint, device.type, asdict(texts),
                      asdict(settings)])


def edit(model: DualEncoder, key: str, texts: EditTexts, settings: EditSettings, store: Store,
         known: Tensor) -> Entry:
    """Return the entry of `key`: tensors are the weights that the edit changes.

    The model itself is left as it was.

    Args:
        known: embeddings of the known classes `(C, D)`, unit norm.

    Raises:
        UserError: the model has no last linear map, or its text encoder cannot tell names apart.
    """
    def compute() -> Entry:
        names = torch.stack([_embedding(model, prompts) for prompts in texts.names])
        targets = torch.stack([_embedding(model, prompts) for prompts in texts.targets])
        found = projection_edit(names, targets, known_metric(known, settings.ridge),
                                settings.strength)
        return Entry({"steps": [], "loss": []},
                     edited(model, last_map(model), found.directions, found.readings))

    return store.get_or_compute(KIND, key, compute)


@torch.no_grad()
def _embedding(model: DualEncoder, texts: Sequence[str]) -> Tensor:
    return mean_direction(model.encode_text(texts).cpu())
