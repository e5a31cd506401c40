"""States of a model: applied for a while, then taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from kt_exp.models.protocol import Model
from kt_exp.store import signature


@dataclass(frozen=True)
class Weights:
    """A state of a model: the `changes` to the weights it was loaded with, signed by `key`."""

    key: str
    changes: dict[str, Tensor]

    @contextmanager
    def applied(self, model: Model) -> Iterator[None]:
        """Give `model` these weights within the block; afterwards it is as before."""
        if not self.changes:
            yield
            return
        with restored(model):
            model.module.load_state_dict({**model.module.state_dict(), **self.changes})
            yield

    def interpolated(self, model: Model, share: float) -> Weights:
        """Return (1 − α) · the current weights of `model` + α · these, α = `share` in [0, 1].

        WiSE-FT (Wortsman et al., CVPR 2022, "Robust fine-tuning of zero-shot models"). The current
        weights are those from which these were trained. Integers, such as the number of batches
        that a batch norm has met, are taken from these.
        """
        if share == 1:
            return self
        before = model.module.state_dict()
        mixed = {name: torch.lerp(before[name].to(new), new, share)
                 if new.is_floating_point() else new for name, new in self.changes.items()}
        return Weights(interpolated_key(self.key, share), mixed)


def interpolated_key(key: str, share: float) -> str:
    """Return the key of the weights of `key` after `Weights.interpolated`."""
    return key if share == 1 else signature([key, "interpolation", share])


FROZEN = Weights("frozen", {})


@contextmanager
def restored(model: Model) -> Iterator[None]:
    """Let the block change the weights; afterwards the model is as before, frozen, in eval mode."""
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    try:
        yield
    finally:
        model.module.load_state_dict(before)
        model.module.eval().requires_grad_(False).zero_grad()
