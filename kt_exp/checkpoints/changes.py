"""The changes of a fine-tuned model: the weights in which it differs from the model it was made of.

A folder with `changes.safetensors` (the new values of the changed weights) and `changes.json` (the
model that they belong to). After a closed-form edit this is one matrix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from kt_exp.atomic import save_tensors, write_atomically
from kt_exp.config import plugins
from kt_exp.config.renames import with_current_names
from kt_exp.errors import UserError
from kt_exp.models.factory import load_model
from kt_exp.models.files import read_state
from kt_exp.models.loading import CHANGES_FILE
from kt_exp.models.protocol import Model

BASE_FILE = "changes.json"


@dataclass(frozen=True)
class Base:
    """The model that changes belong to.

    Attributes:
        model: the `model` section of the run's config.
        precision: `fp32` or `bf16`, as in the run.
        fingerprint: of the model before fine-tuning.
    """

    model: dict[str, Any]
    precision: str
    fingerprint: str

    def changed(self, weights: Mapping[str, Tensor], where: Path) -> Model:
        """Return the model on the CPU, with `weights` in place of its own.

        Args:
            where: the file of the weights, for error messages.

        Raises:
            UserError: the model cannot be loaded, is not the one that was fine-tuned, or lacks one
                of the weights.
        """
        section = with_current_names({"model": self.model})["model"]
        spec = plugins.build(OmegaConf.create(section), "model")
        model = load_model(spec, torch.device("cpu"), self.precision)
        if model.fingerprint() != self.fingerprint:
            raise UserError(str(where), "belongs to other weights than those that the run's model "
                            "section now loads", "put the run's own base model back in place")
        state = model.module.state_dict()
        for name, tensor in weights.items():
            if name not in state or state[name].shape != tensor.shape:
                raise UserError(str(where), f"the model has no '{name}' of {list(tensor.shape)}")
        model.module.load_state_dict({**state, **weights})
        return model


def write_changes(folder: Path, base: Base, weights: Mapping[str, Tensor]) -> None:
    """Write the changed `weights` of a model into `folder`, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / CHANGES_FILE, weights)
    write_atomically(folder / BASE_FILE, json.dumps(asdict(base), indent=2) + "\n")


def read_changes(folder: Path) -> Model:
    """Return the model that `write_changes` described, on the CPU, with the changes made.

    Raises:
        UserError: a file is missing or damaged, or the base model is not there.
    """
    path = folder / BASE_FILE
    try:
        base = Base(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(str(path), f"cannot be read ({error})", "run the job again") from error
    weights = folder / CHANGES_FILE
    return base.changed(read_state(weights, str(weights)), weights)
