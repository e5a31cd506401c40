"""What the optimiser moves: weights in full, low-rank adapters, or either off known features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast

import torch
from torch import Tensor
from torch.nn import Parameter

from kt_exp.errors import UserError, did_you_mean
from kt_exp.finetune.feature_cache import FeatureCache
from kt_exp.finetune.lora import Adapter, adapted, check_peft
from kt_exp.finetune.null_space import protected_directions, second_moments, without
from kt_exp.finetune.settings import FinetuneSettings
from kt_exp.finetune.strategies import trained_parameters
from kt_exp.models.linear_maps import LinearMap, linear_maps
from kt_exp.models.protocol import DualEncoder, Model
from kt_exp.models.split import TopEncoder

# The directions of each map's inputs that updates must not touch, `(F, K)`, by the map's name.
Protected = dict[str, Tensor]


@dataclass(frozen=True)
class Updates:
    """The parameters that the optimiser moves, and what follows each of its steps."""

    parameters: list[Parameter]
    after_step: Callable[[], None]


def check_updates(model: Model, settings: FinetuneSettings) -> None:
    """Check that the model has what the settings train.

    Raises:
        UserError: the strategy trains nothing of the model, or no linear layer where LoRA or the
            null space needs one; or peft is missing.
    """
    trained_parameters(model, settings.strategy)
    if settings.lora.rank:
        check_peft()
    if settings.lora.rank or settings.null_space:
        maps = _maps(model, settings)
    if settings.null_space:
        side = model.image_size
        blank = torch.zeros(1, 3, side, side, device=model.device)
        if isinstance(model, TopEncoder):
            blank = model.features_of(blank)
        if not second_moments(cast(DualEncoder, model), maps, blank, ["a"]):
            raise UserError("finetune.null_space", "known images and prompts reach none of the "
                            "linear layers that are trained", "choose another finetune.strategy, "
                            "or set it to 0")


def protected(model: Model, images: Tensor, prompts: list[str], settings: FinetuneSettings,
              features: FeatureCache) -> Protected | None:
    """Return the protected directions, to be computed before training; None if there are none."""
    if not settings.null_space:
        return None
    return protected_directions(cast(DualEncoder, model), _maps(model, settings), images, prompts,
                                settings.null_space, features)


@contextmanager
def updates(model: Model, settings: FinetuneSettings, off: Protected | None) -> Iterator[Updates]:
    """Freeze the model but for what is trained; afterwards the model has its new weights.

    With LoRA or protected directions `off`, only linear maps are trained: biases, norms, embeddings
    and convolutions stay as they are, as do maps that have no entry in `off`.
    """
    model.module.requires_grad_(False)
    maps = _maps(model, settings) if settings.lora.rank or off is not None else []
    if off is not None:
        maps = [place for place in maps if place.name in off]
    if settings.lora.rank:
        with adapted(maps, settings.lora) as adapters:
            yield _of_adapters(maps, adapters, off)
        return
    parameters = trained_parameters(model, settings.strategy)
    if off is not None:
        parameters = {place.name: parameters[place.name] for place in maps}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    yield _of_weights(maps, list(parameters.values()), off)


def _of_weights(maps: list[LinearMap], parameters: list[Parameter],
                off: Protected | None) -> Updates:
    if off is None:
        return Updates(parameters, lambda: None)
    before = [place.weight.detach().clone() for place in maps]

    @torch.no_grad()
    def project() -> None:
        for place, start in zip(maps, before, strict=True):
            change = place.oriented(place.weight - start)
            place.weight.copy_(start + place.oriented(without(off[place.name], change)))

    return Updates(parameters, project)


def _of_adapters(maps: list[LinearMap], adapters: list[Adapter], off: Protected | None) -> Updates:
    parameters = [part for adapter in adapters for part in (adapter.down, adapter.up)]
    if off is None:
        return Updates(parameters, lambda: None)

    @torch.no_grad()
    def project() -> None:
        for place, adapter in zip(maps, adapters, strict=True):
            adapter.down.copy_(without(off[place.name], adapter.down))

    project()
    return Updates(parameters, project)


def _maps(model: Model, settings: FinetuneSettings) -> list[LinearMap]:
    """Return the linear maps that the strategy and, with LoRA, its targets train."""
    maps = linear_maps(model, trained_parameters(model, settings.strategy))
    if not maps:
        key = "finetune.lora.rank" if settings.lora.rank else "finetune.null_space"
        raise UserError(key, f"finetune.strategy '{settings.strategy}' trains no linear layer of "
                        "this model", "choose another strategy, or set it to 0")
    if not settings.lora.rank:
        return maps
    names = [place.name for place in maps]
    for pattern in settings.lora.targets:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError("finetune.lora.targets", f"'{pattern}' matches no linear layer that "
                            f"finetune.strategy '{settings.strategy}' trains",
                            did_you_mean(pattern, names))
    return [place for place in maps
            if any(fnmatchcase(place.name, pattern) for pattern in settings.lora.targets)]
