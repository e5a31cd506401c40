"""The linear map that an image tower ends in, found and edited as ordinary weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from kt_exp.errors import UserError
from kt_exp.models.protocol import DualEncoder, Model


@dataclass(frozen=True)
class LastMap:
    """Where a model keeps the map of its image features f to embeddings e = W f + b.

    Attributes:
        weight: name of the parameter W.
        bias: name of b; None without one.
        from_right: the parameter is Wᵀ, `(F, D)`, applied as f @ Wᵀ, as in open_clip's ViT; else
            `(D, F)`, as in a Linear.
    """

    weight: str
    bias: str | None
    from_right: bool


def last_map(model: Model) -> LastMap:
    """Return where the last linear map of a model's image tower is.

    It is the tower's part `visual_projection`, where that is the weight, with or without a bias, of
    one Linear, or one matrix that is applied from the right.

    Raises:
        UserError: the model is no dual encoder, or its image tower does not end in such a map.
    """
    if not isinstance(model, DualEncoder):
        raise UserError("finetune.strategy", f"{type(model).__name__} has no image embeddings, "
                        "which 'projection_edit' edits", "choose a dual encoder such as CLIP, or "
                        "another strategy")
    part = model.towers()["visual_projection"]
    weights = [name for name, parameter in part.items() if parameter.dim() == 2]
    biases = [name for name, parameter in part.items() if parameter.dim() == 1]
    if len(weights) != 1 or len(biases) > 1 or len(part) != len(weights) + len(biases):
        raise UserError("finetune.strategy", "'projection_edit' needs an image tower that ends in "
                        "one linear map, and this model's does not", "choose another strategy")
    owner = model.module.get_submodule(weights[0].rpartition(".")[0])
    return LastMap(weights[0], biases[0] if biases else None, not isinstance(owner, nn.Linear))


def edited(model: Model, place: LastMap, directions: Tensor, readings: Tensor) -> dict[str, Tensor]:
    """Return the parameters with which embeddings e become e + V C e; the model stays as it is.

    Computed in float64 and returned in the dtype and on the device of the parameters.

    Args:
        directions: V, `(D, M)`.
        readings: C, `(M, D)`.
    """
    state = model.module.state_dict()

    def edit(columns: Tensor) -> Tensor:
        exact = columns.double().cpu()
        return exact + directions @ (readings @ exact)

    weight = state[place.weight]
    changed = {place.weight: edit(weight.T).T if place.from_right else edit(weight)}
    if place.bias is not None:
        changed[place.bias] = edit(state[place.bias])
    return {name: tensor.to(state[name]).contiguous() for name, tensor in changed.items()}
