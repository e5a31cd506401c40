"""Teach a model a concept in one call: `kt_exp.teach(description, name=…)`.

The closed-form edit of `finetune=closed_form` (docs/closed_form.md), without a config, a benchmark
or images, for a model by name or one that is in memory already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPModel

from kt_exp.api import compose, load_model
from kt_exp.benchmarks.classification.prompts import filled, target_prompts
from kt_exp.checkpoints.card import CLOSED_FORM, Card
from kt_exp.checkpoints.export import export_model
from kt_exp.checkpoints.hub import push_folder
from kt_exp.checkpoints.labelling import Labelled, images_in, label_images
from kt_exp.checkpoints.usage import DEFAULT_TEMPLATES, Usage
from kt_exp.concepts import Concept
from kt_exp.concepts.captions import check_lengths
from kt_exp.config.checks import check
from kt_exp.data.class_lists import class_list
from kt_exp.data.image_files import ImageFiles, to_rgb
from kt_exp.editing import TARGETS
from kt_exp.errors import UserError, did_you_mean
from kt_exp.finetune.closed_form import known_metric, projection_edit
from kt_exp.finetune.edit_stage import embedded
from kt_exp.finetune.settings import BUDGET, EditSettings
from kt_exp.finetune.strength import KnownItems, strengths_within_budget
from kt_exp.models.clip import OpenClip
from kt_exp.models.factory import load_model as load_spec
from kt_exp.models.factory import pick_device
from kt_exp.models.last_map import edited, last_map
from kt_exp.models.protocol import DualEncoder, Model
from kt_exp.models.wrap import wrap_hugging_face, wrap_open_clip
from kt_exp.progress import progress
from kt_exp.results.outcome import Phase

METHODS = ("closed_form",)


@dataclass(frozen=True)
class Taught:
    """A model that was taught a concept.

    Attributes:
        model: of the kind that was given; of a model by name, a model of kt_exp, whose `module` is
            the network. The given one is as it was.
        encoder: the same network with the methods of `kt_exp.models.protocol.DualEncoder`.
        concept: what was taught.
        known: the known names that were given.
        card: what the model card says.
    """

    model: Any
    encoder: DualEncoder
    concept: Concept
    known: list[str]
    card: Card = field(repr=False)

    def classify(self, images: str | Path | Iterable[str | Path | Image.Image],
                 names: Sequence[str] | None = None) -> list[Labelled]:
        """Return the likeliest names of each image, at most five, with their cosine similarities.

        Args:
            images: a folder (searched at any depth), or files and pictures.
            names: the known names beside the one taught; None: those given to `teach`.

        Raises:
            UserError: there is no readable image, or no known name.
        """
        known = self.known if names is None else names
        candidates = list(dict.fromkeys([*known, self.concept.name]))
        if len(candidates) < 2:
            raise UserError("names", "the name taught alone is nothing to choose from",
                            "give the known names: classify(images, names)")
        chosen = _image_set(images)
        return label_images(self.encoder, chosen, chosen.names, candidates, self.card.usage,
                            progress)

    def export(self, folder: str | Path, format: str = "native",
               license: str | None = None) -> Path:
        """Write the model and its card into a new folder, as `kt-exp export` does; return it.

        Args:
            format: `native` (the model's own library), `open_clip` or `hf`.
            license: of the model card; None: that of the base model.

        Raises:
            UserError: the folder holds something, or the model has no such format.
        """
        card = replace(self.card, license=license or self.card.license)
        return export_model(self.encoder, card, Path(folder), format)

    def push_to_hub(self, repo: str, *, format: str = "native", private: bool = False,
                    license: str | None = None) -> str:
        """Upload what `export` writes to a repository of the Hugging Face hub; return its address.

        Args:
            repo: `NAME` or `ORGANISATION/NAME`; created if absent.

        Raises:
            UserError: the hub cannot be reached, or refuses.
        """
        return push_folder(repo, lambda folder: self.export(folder, format, license), private)


def teach(description: str, *, name: str, model: Any = "pictoclip", method: str = "closed_form",
          known: Sequence[str] = (), templates: Sequence[str] = tuple(DEFAULT_TEMPLATES),
          target: str | None = None, strength: float | str | None = None,
          budget: float | None = None, most: float | None = None, ridge: float | None = None,
          others: str | Sequence[str] | None = None, others_weight: float | None = None,
          protected: Sequence[str] | None = None, tokenizer: Any = None, processor: Any = None,
          architecture: str | None = None, device: str = "auto") -> Taught:
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
        target, strength, budget, most, ridge, others_weight, protected: the keys of
            `finetune.edit`; None: those of `finetune=closed_form`. `strength="budget"` counts the
            texts of the known names, which allow larger strengths than images would.
        others: as the key, or a list of names.
        tokenizer: of a network of open_clip; None: OpenAI's.
        processor: of a `CLIPModel`; None: that of the checkpoint it was loaded from.
        architecture: of a network of open_clip, its name there; None: read from the network.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: the model cannot be loaded or edited, a value is out of range, or a text is empty
            or too long for the model.
    """
    if method not in METHODS:
        raise UserError("method", f"'{method}' is not an option", did_you_mean(method, METHODS))
    concept = Concept(_text("name", name), _text("description", description))
    given: dict[str, Any] = {
        "target": target, "strength": strength, "budget": budget, "most": most, "ridge": ridge,
        "others_weight": others_weight, "protected": protected and list(protected),
        "others": others if isinstance(others, str) else None}
    settings = replace(compose(["inversion=none", "finetune=closed_form"]).finetune.edit,
                       **{key: value for key, value in given.items() if value is not None})
    check(settings, "")
    usage = Usage({concept.name: concept.description}, list(templates))
    encoder, base, as_given = _encoder(model, tokenizer, processor, architecture, device)
    listed = class_list(settings.others, "others") if settings.others else []
    stand_ins = listed if others is None or isinstance(others, str) else list(others)
    _edit(encoder, concept, usage, settings, list(known), stand_ins)
    method_used = {**CLOSED_FORM, **vars(settings), "known names": len(known)}
    return Taught(as_given(encoder), encoder, concept, list(known), Card(base, usage, method_used))


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(key, f"{value!r} is no text", "say in words what is to be taught")
    return " ".join(value.split())


def _encoder(model: Any, tokenizer: Any, processor: Any, architecture: str | None,
             device: str) -> tuple[DualEncoder, dict[str, Any], Callable[[DualEncoder], Any]]:
    """Return a copy to be changed, where it came from, and how to give it back as it was given."""
    place = pick_device(device)
    if isinstance(model, str):
        return *_by_name(model, device), lambda encoder: encoder
    if isinstance(model, CLIPModel):
        base = {"name": model.config.name_or_path or type(model).__name__}
        return wrap_hugging_face(model, processor, place), base, lambda encoder: encoder.module
    if isinstance(model, open_clip.CLIP | open_clip.CustomTextCLIP):
        base = {"name": architecture or type(model).__name__}
        return (wrap_open_clip(model, tokenizer, architecture, place), base,
                lambda encoder: encoder.module)
    if isinstance(model, DualEncoder):
        return deepcopy(model), {"name": type(model).__name__}, lambda encoder: encoder
    raise UserError("model", f"{type(model).__name__} is no dual encoder that can be taught",
                    "give a name (ViT-B-32/openai), a CLIP of open_clip, a CLIPModel of "
                    "transformers, or a dual encoder of kt_exp")


def _by_name(name: str, device: str) -> tuple[DualEncoder, dict[str, Any]]:
    loaded: Model
    if name.startswith(("local-dir:", "hf-hub:")) or "/" in name:
        prefixed = ":" in name
        architecture, _, tag = (name, "", None) if prefixed else name.rpartition("/")
        loaded = load_spec(OpenClip(architecture, tag), pick_device(device), "fp32")
        base: dict[str, Any] = {"name": architecture, "pretrained": tag}
    else:
        config = compose([f"model={name}", f"device={device}"])
        loaded = load_model(config)
        kind = type(config.model)
        base = {**vars(config.model), "_target_": f"{kind.__module__}.{kind.__name__}"}
    if not isinstance(loaded, DualEncoder):
        raise UserError("model", f"'{name}' has no image embeddings", "choose a dual encoder")
    return loaded, base


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
        strength = strengths_within_budget(KnownItems.from_texts(known_classes), name, target,
                                           metric, settings.budget, settings.most, protected)
    found = projection_edit(name, target, metric, strength, protected)
    changes = edited(encoder, last_map(encoder), found.directions, found.readings)
    encoder.module.load_state_dict({**encoder.module.state_dict(), **changes})


@dataclass(frozen=True)
class _Pictures:
    """Files and pictures in memory: an `ImageSet`."""

    images: Sequence[Path | Image.Image]
    names: list[str]

    @property
    def labels(self) -> list[int]:
        return [0] * len(self.images)

    def __len__(self) -> int:
        return len(self.images)

    def open(self, index: int) -> Image.Image:
        image = self.images[index]
        if isinstance(image, Image.Image):
            return to_rgb(image)
        return ImageFiles(image.parent, [image], [0]).open(0)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for image in self.images:
            if isinstance(image, Image.Image):
                digest.update(f"{image.mode} {image.size}".encode() + image.tobytes())
            else:
                digest.update(ImageFiles(image.parent, [image], [0]).fingerprint().encode())
        return digest.hexdigest()


def _image_set(images: str | Path | Iterable[str | Path | Image.Image]) -> _Pictures:
    if isinstance(images, str | Path):
        files = images_in(Path(images).expanduser()).files
        return _Pictures(files, [str(file) for file in files])
    found = [image if isinstance(image, Image.Image) else Path(image) for image in images]
    names = [getattr(image, "filename", "") or f"image {number}"
             if isinstance(image, Image.Image) else str(image)
             for number, image in enumerate(found)]
    return _Pictures(found, names)
