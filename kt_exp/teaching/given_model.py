"""The model that is to be taught: by name, or one that is in memory already."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import open_clip
from transformers import CLIPModel

from kt_exp.api import compose, load_model
from kt_exp.errors import UserError
from kt_exp.models.clip import OpenClip
from kt_exp.models.factory import load_model as load_spec
from kt_exp.models.factory import pick_device
from kt_exp.models.protocol import DualEncoder, Model
from kt_exp.models.wrap import wrap_hugging_face, wrap_open_clip


def copied(model: Any, tokenizer: Any, processor: Any, architecture: str | None,
             device: str) -> tuple[DualEncoder, dict[str, Any], Callable[[DualEncoder], Any]]:
    """Return a copy to be changed, where it came from, and how to give it back as it was given.

    Raises:
        UserError: the model cannot be loaded, or is no dual encoder.
    """
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
