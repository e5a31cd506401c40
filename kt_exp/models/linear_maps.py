"""The linear maps among a model's parameters, wherever its modules keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kt_exp.models.protocol import Model

_TEXT_PROJECTION = "text_projection"  # open_clip's and CLIP's name for the text tower's last map


@dataclass(frozen=True)
class LinearMap:
    """A matrix that is multiplied with features.

    Attributes:
        name: name of the parameter.
        module: the module that holds it.
        from_right: the parameter is `(F, D)`, applied as x @ W, as open_clip's projections are;
            else `(D, F)`, as in a Linear.
    """

    name: str
    module: nn.Module
    from_right: bool

    @property
    def attribute(self) -> str:
        """The parameter's name in its module."""
        return self.name.rpartition(".")[2]

    @property
    def weight(self) -> Tensor:
        """The current weight, as the module uses it."""
        return getattr(self.module, self.attribute)

    def oriented(self, weight: Tensor) -> Tensor:
        """Return a tensor of the weight's shape as `(D, F)`, or the other way round: a view."""
        return weight.T if self.from_right else weight


def linear_maps(model: Model, parameters: Mapping[str, nn.Parameter]) -> list[LinearMap]:
    """Return those of `parameters` that are linear maps; embeddings and convolutions are none.

    They are the weights of Linear layers, the projections of nn.MultiheadAttention (queries, keys
    and values are one map where it packs them), and the last maps of both towers.
    """
    bare = model.towers()["visual_projection"]
    found = []
    for name, parameter in parameters.items():
        owner, _, attribute = name.rpartition(".")
        module = model.module.get_submodule(owner)
        applied_from_left = isinstance(module, nn.Linear | nn.MultiheadAttention)
        last = name in bare or attribute == _TEXT_PROJECTION
        if parameter.dim() == 2 and (applied_from_left or last):
            found.append(LinearMap(name, module, not applied_from_left))
    return found
