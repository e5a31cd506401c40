"""Teach a model a concept in one call: `kt_exp.teach(description, name=…)`.

The closed-form edit of `finetune=closed_form` (docs/closed_form.md), without a config or a
benchmark, for a model by name or one that is in memory already. Images are only measured on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kt_exp.api import compose
from kt_exp.benchmarks.classification.on_images import GivenImages
from kt_exp.benchmarks.classification.prompts import filled, target_prompts
from kt_exp.checkpoints.card import CLOSED_FORM, Card
from kt_exp.checkpoints.labelling import Loading
from kt_exp.checkpoints.measured import measured_of
from kt_exp.checkpoints.usage import DEFAULT_TEMPLATES, Usage
from kt_exp.concepts import Concept, name_key
from kt_exp.concepts.captions import check_lengths
from kt_exp.config.checks import check
from kt_exp.data.class_lists import class_list
from kt_exp.data.image_files import listing
from kt_exp.data.pictures import Images, by_name, labelled_pictures, pictures
from kt_exp.editing import TARGETS
from kt_exp.errors import UserError, did_you_mean
from kt_exp.finetune.closed_form import known_metric, projection_edit
from kt_exp.finetune.edit_stage import budgeted_strengths, embedded
from kt_exp.finetune.settings import BUDGET, EditSettings
from kt_exp.finetune.strength import KnownItems
from kt_exp.models.last_map import edited, last_map
from kt_exp.models.protocol import DualEncoder
from kt_exp.progress import progress
from kt_exp.results.gains import PhaseMargins
from kt_exp.results.outcome import Outcome, Phase
from kt_exp.teaching.given_model import copied
from kt_exp.teaching.taught import Taught

log = logging.getLogger(__name__)

METHODS = ("closed_form",)


def teach(description: str, *, name: str, model: Any = "pictoclip", method: str = "closed_form",
          known: Sequence[str] = (), templates: Sequence[str] = tuple(DEFAULT_TEMPLATES),
          target: str | None = None, strength: float | str | None = None,
          budget: float | None = None, least: float | None = None, most: float | None = None,
          ridge: float | None = None,
          others: str | Sequence[str] | None = None, others_weight: float | None = None,
          protected: Sequence[str] | None = None, images: Images | None = None,
          known_images: Mapping[str, Images] | str | Path | None = None, tokenizer: Any = None,
          processor: Any = None, architecture: str | None = None, device: str = "auto") -> Taught:
    """Return a copy of `model` that has been taught what `name` looks like.

    Args:
        description: its appearance, without the name.
        model: a name of open_clip with its weights (`ViT-B-32/openai`, `local-dir:FOLDER`,
            `hf-hub:ORG/REPO`), an option of the group `model` (`pictoclip`), a network of
            open_clip, a `CLIPModel` of transformers, or a model of kt_exp.
        method: `closed_form`: from texts alone, without training.
        known: names whose scores shall change least; without them the edit moves along the name's
            own embedding and forgets more.
        templates: prompts with `{}` for a name, in which names are asked for.
        target, strength, budget, least, most, ridge, others_weight, protected: the keys of
            `finetune.edit`; None: those of `finetune=closed_form`. `strength="budget"` counts the
            texts of the known names, which allow larger strengths than images would.
        others: as the key, or a list of names.
        images: of the concept, to measure on: a folder (searched at any depth), or files and
            pictures. `metrics` of the result then has target accuracy before and after. The edit
            does not depend on them. Unreadable images are left out, and counted in the log.
        known_images: of known classes, by name, or a folder with a sub-folder for each; their names
            are added to `known`. With them `metrics` also has known accuracy, `auroc`,
            `target_at_2` and the rest of docs/results.md.
        tokenizer: of a network of open_clip; None: OpenAI's.
        processor: of a `CLIPModel`; None: that of the checkpoint it was loaded from.
        architecture: of a network of open_clip, its name there; None: read from the network.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: the model cannot be loaded or edited, a value is out of range, a text is empty
            or too long for the model, or images cannot be measured on: none is readable, there is
            no known name, or a known one is the concept's.
    """
    if method not in METHODS:
        raise UserError("method", f"'{method}' is not an option", did_you_mean(method, METHODS))
    concept = Concept(_text("name", name), _text("description", description))
    given: dict[str, Any] = {
        "target": target, "strength": strength, "budget": budget, "least": least, "most": most,
        "ridge": ridge,
        "others_weight": others_weight, "protected": protected and list(protected),
        "others": others if isinstance(others, str) else None}
    settings = replace(compose(["inversion=none", "finetune=closed_form"]).finetune.edit,
                       **{key: value for key, value in given.items() if value is not None})
    check(settings, "")
    usage = Usage({concept.name: concept.description}, list(templates))
    of_known = by_name(known_images, "known_images") if known_images is not None else {}
    names = list(dict.fromkeys([*known, *of_known]))
    given_images = _given_images(concept, names, usage, images, of_known)
    encoder, base, as_given = copied(model, tokenizer, processor, architecture, device)
    listed = class_list(settings.others, "others") if settings.others else []
    stand_ins = listed if others is None or isinstance(others, str) else list(others)
    outcomes, reference = [], None
    if given_images:
        before, reference = given_images.measure(encoder, Phase.baseline, progress)
        outcomes.append(before)
    _edit(encoder, concept, usage, settings, names, stand_ins)
    if given_images:
        after, _ = given_images.measure(encoder, Phase.transferred, progress, reference)
        outcomes.append(after)
    _tell_skipped(outcomes)
    metrics = [row for outcome in outcomes for row in outcome.metrics]
    margins: dict[str, PhaseMargins] = {
        phase: outcome.margins for phase, outcome in
        zip((Phase.baseline, Phase.transferred), outcomes, strict=False) if outcome.margins}
    measured = [measured_of(metrics, margins, concept.name)] if outcomes else []
    card = Card(base, usage, {**CLOSED_FORM, **vars(settings), "known names": len(names)}, measured)
    return Taught(as_given(encoder), encoder, concept, names, card, metrics)


def _given_images(concept: Concept, known: list[str], usage: Usage, images: Images | None,
                  known_images: Mapping[str, Images]) -> GivenImages | None:
    """Return the images to measure on; None without images of the concept."""
    if images is None:
        if known_images:
            raise UserError("images", "missing: known_images are measured beside images of the "
                            "concept", "give images of it, or leave known_images out")
        return None
    if not known:
        raise UserError("known", "missing: an image is assigned to the concept or to a known name",
                        "give known names, or known_images")
    if name_key(concept.name) in map(name_key, known):
        raise UserError("known", f"holds '{concept.name}', which is to be taught", "remove it")
    targets = pictures(images)
    if not len(targets):
        raise UserError("images", "none are given", "give images of the concept")
    prompts = [*(filled(usage, name) for name in known),
               target_prompts(usage, concept, Phase.baseline)]
    return GivenImages([*known, concept.name], prompts, targets,
                       labelled_pictures(known_images, known) if known_images else None, Loading())


def _tell_skipped(outcomes: Sequence[Outcome]) -> None:
    if skipped := sorted({path for outcome in outcomes for path in outcome.skipped}):
        log.warning("%d unreadable images were left out: %s", len(skipped), listing(skipped))


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(key, f"{value!r} is no text", "say in words what is to be taught")
    return " ".join(value.split())


@torch.no_grad()
def _edit(encoder: DualEncoder, concept: Concept, usage: Usage, settings: EditSettings,
          known: list[str], others: list[str]) -> None:
    """Edit the encoder's last linear map in place."""
    prompts = target_prompts(usage, concept, Phase.baseline)
    targets = target_prompts(usage, concept, TARGETS[settings.target])
    check_lengths([(concept.name, text) for text in (*prompts, *targets)], encoder.count_tokens,
                  encoder.max_text_tokens, "error")
    name, target = embedded(encoder, [prompts, targets]).split(1)

    def classes(names: Sequence[str]) -> Tensor:
        own = [filled(usage, other) for other in names if other != concept.name]
        return embedded(encoder, own) if own else name[:0]

    known_classes = classes(known)
    metric = known_metric(known_classes, settings.ridge, classes(others) if others else None,
                          settings.others_weight if known else 1.0)
    protected = classes(settings.protected) if settings.protected else None
    strength: Tensor | float = settings.strength
    if settings.strength == BUDGET:
        if not len(known_classes):
            raise UserError("known", "missing: strength='budget' counts which known names are lost",
                            "give known names, or a strength such as 1.3")
        strength = budgeted_strengths(KnownItems.from_texts(known_classes), name, target, metric,
                                      settings, protected)
    found = projection_edit(name, target, metric, strength, protected)
    changes = edited(encoder, last_map(encoder), found.directions, found.readings)
    encoder.module.load_state_dict({**encoder.module.state_dict(), **changes})
