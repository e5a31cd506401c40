"""Diagnosis of a concept from its captions alone, before anything costly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kt_exp.concepts import Concept, name_key
from kt_exp.concepts.captions import fill, named
from kt_exp.models.protocol import DualEncoder, Model
from kt_exp.results.outcome import Diagnosis

# Fine-tuning moves images towards "A X is …"; zero-shot classification compares them with "a photo
# of a X". In trials with small CLIPs on pictograms, transfer worked where the two captions had a
# cosine of 0.45 to 0.6. Below 0.25 nothing was learned, not even from real pictures. Captions with
# the bare name ("mixed") avoid this: with them a concept at 0.14 was learned.
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
    the cosines of "A X is …" where fine-tuning pairs the images with that caption alone.

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
            warning=_warning(cosine, _rivals(concept, caption[i], known, known_names))
            if captions == "named" else None,
        ))
    return diagnoses


def _warning(cosine: float, rivals: list[tuple[str, float]]) -> str | None:
    """Judge by the caption "A X is …", towards which fine-tuning moves the images.

    The description would not do: for nearly every concept (14 of 15 pictograms), learnable or not,
    it is closer to some known name than to the concept's name.
    """
    if cosine < UNLIKELY_BELOW:
        return (f"transfer is unlikely by a caption 'A X is …': to the text encoder it has little "
                f"in common with the name (cosine {cosine:.2f}, below {UNLIKELY_BELOW}); only "
                f"captions with the bare name may do it (finetune.captions=mixed or templates)")
    for name, rival in rivals:
        if rival > cosine:
            return (f"'{name}' may take its images: the caption is nearer to that known name "
                    f"(cosine {rival:.2f}) than to its own ({cosine:.2f})")
    return None


def _rivals(concept: Concept, caption: Tensor, known: Tensor,
            names: Sequence[str]) -> list[tuple[str, float]]:
    """Return the known name nearest to a caption and its cosine, as a list of at most one.

    The concept's own name is left out: in a closed set it is a known name.
    """
    own = {name_key(concept.name), name_key(concept.image_class)}
    nearest = _nearest(caption, known, names, 2)
    return [rival for rival in nearest if name_key(rival[0]) not in own][:1]


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
