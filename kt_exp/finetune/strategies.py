"""Which parameters a fine-tuning strategy trains."""

from __future__ import annotations

from torch.nn import Parameter

from kt_exp.errors import UserError
from kt_exp.models.protocol import Model

TRAINS_TEXT = ("text", "both")


def trained_parameters(model: Model, strategy: str) -> dict[str, Parameter]:
    """Return the named parameters that `strategy` trains; all others stay frozen.

    `visual` is the paper's (C.1), `visual_trunk` the authors' script (no projection); `text`,
    `both` and `projection` are its alternatives (supplementary E.1, Fig. 6).

    Raises:
        UserError: the model has nothing of the kind.
    """
    towers = model.towers()
    visual, projection = towers["visual"], towers["visual_projection"]
    chosen = {
        "visual": visual,
        "visual_trunk": {name: p for name, p in visual.items() if name not in projection},
        "projection": projection,
        "text": towers["text"],
        "both": visual | towers["text"],
    }[strategy]
    if not chosen:
        raise UserError("finetune.strategy", f"the model has no parameters for '{strategy}'",
                        "choose visual")
    return chosen
