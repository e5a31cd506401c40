"""The closed-form stage: edits the last linear map for a group of concepts, through the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from kt_exp.concepts import Concept
from kt_exp.concepts.parts import description_parts, part_prompts
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


def edit_texts(concepts: Sequence[Concept], names: Sequence[Sequence[str]],
               known: Sequence[Sequence[str]], target: str) -> EditTexts:
    """Return the texts of an edit that teaches `concepts` together.

    Args:
        names: the prompts of each concept's name.
        known: the prompts of each known class.
        target: `finetune.edit.target`.
    """
    targets = []
    for concept, prompts in zip(concepts, names, strict=True):
        if target == "parts":
            targets.append(part_prompts(description_parts(concept.description, concept.parts)))
        elif target == "name_and_description":
            targets.append([*prompts, *[concept.description] * len(prompts)])
        else:
            targets.append([concept.description])
    return EditTexts(list(map(list, names)), targets, list(map(list, known)))


def edit_signature(model_fingerprint: str, device: torch.device, texts: EditTexts,
                   settings: EditSettings) -> str:
    """Return the store key of the edited weights: a hash of all that can change them."""
    return signature(["edit", VERSION, model_fingerprint, device.type, asdict(texts),
                      asdict(settings)])


def edit(model: DualEncoder, key: str, texts: EditTexts, settings: EditSettings, store: Store,
         known: Callable[[], Tensor]) -> Entry:
    """Return the entry of `key`: tensors are the weights that the edit changes.

    The model itself is left as it was.

    Args:
        known: gives the embeddings of the known classes `(C, D)`, unit norm; called only if there
            is work to do.

    Raises:
        UserError: the model has no last linear map, or its text encoder cannot tell names apart.
    """
    def compute() -> Entry:
        names = torch.stack([_embedding(model, prompts) for prompts in texts.names])
        targets = torch.stack([_embedding(model, prompts) for prompts in texts.targets])
        found = projection_edit(names, targets, known_metric(known(), settings.ridge),
                                settings.strength)
        return Entry({"steps": [], "loss": []},
                     edited(model, last_map(model), found.directions, found.readings))

    return store.get_or_compute(KIND, key, compute)


@torch.no_grad()
def _embedding(model: DualEncoder, texts: Sequence[str]) -> Tensor:
    return mean_direction(model.encode_text(texts).cpu())
