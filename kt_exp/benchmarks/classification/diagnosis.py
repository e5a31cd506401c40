"""Diagnosis of a concept from its captions alone, before anything costly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kt_exp.concepts import Concept
from kt_exp.concepts.captions import fill, named
from kt_exp.models.protocol import DualEncoder, Model
from kt_exp.results.outcome import Diagnosis

# Fine-tuning moves images towards "A X is …"; zero-shot classification compares them with "a photo
# of a X". Where the two captions had a lower cosine, nothing was learned by the first alone: the
# counts are in docs/concepts.md. Captions with the bare name ("mixed") avoid it.
UNLIKELY_BELOW = 0.25
NEAREST = 3


def count_tokens(model: Model, concept: Concept) -> Diagnosis:
    """Return the diagnosis possible with any model: the caption's length in tokens."""
    return Diagnosis(model.count_tokens(named(concept)), model.max_text_tokens)


@torch.no_grad()
def diagnose(model: DualEncoder, concepts: Sequence[Concept], templates: Sequence[str],
             known_names: Sequence[str], known: Tensor, captions: str | None) -> list[Diagnosis]:
    """Return a diagnosis of each concept, in order.

    Encodes a few short captions per concept. It warns only of what was seen to predict failure:
    a low cosine of "A X is …" where fine-tuning pairs the images with that caption alone.

    Args:
        templates: prompt templates with `{}`; at least one.
        known: unit-norm embeddings of the known classes `(K, D)`, on the CPU.
        captions: `finetune.captions`; None if nothing is trained on captions.
    """
    own = _embed_names(model, concepts, templates)
    caption = _embed(model, [named(concept) for concept in concepts])
    described = _embed(model, [concept.description for concept in concepts])
    diagnoses = []
    for i, concept in enumerate(concepts):
        cosine = float(caption[i] @ own[i])
        diagnoses.append(replace(
            count_tokens(model, concept),
            cosine=cosine,
            nearest=_nearest(described[i], known, known_names, NEAREST),
            warning=_warning(cosine) if captions == "named" else None,
        ))
    return diagnoses


def _warning(cosine: float) -> str | None:
    """Judge by the caption "A X is …", towards which fine-tuning moves the images."""
    if cosine >= UNLIKELY_BELOW:
        return None
    return (f"transfer is unlikely by a caption 'A X is …': to the text encoder it has little in "
            f"common with the name (cosine {cosine:.2f}, below {UNLIKELY_BELOW}); only captions "
            "with the bare name may do it (finetune.captions=mixed or templates)")


def _nearest(embedding: Tensor, known: Tensor, names: Sequence[str],
             most: int) -> list[tuple[str, float]]:
    cosines, indices = (known @ embedding).topk(min(most, len(names)))
    return [(names[i], c) for i, c in zip(indices.tolist(), cosines.tolist(), strict=True)]


def _embed_names(model: DualEncoder, concepts: Sequence[Concept],
                 templates: Sequence[str]) -> Tensor:
    """Return one unit-norm embedding per concept, the mean over all templates, `(C, D)`."""
    prompts = [fill(template, concept.name, concept.plural)
               for concept in concepts for template in templates]
    embedded = _embed(model, prompts)
    return normalize(embedded.view(len(concepts), len(templates), -1).mean(dim=1), dim=-1)


def _embed(model: DualEncoder, captions: Sequence[str]) -> Tensor:
    return model.encode_text(captions).cpu()
