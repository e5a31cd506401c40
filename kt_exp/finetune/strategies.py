"""Which parameters a fine-tuning strategy trains."""

from __future__ import annotations

from torch.nn import Parameter

from kt_exp.errors import UserError
from kt_exp.models.protocol import Model
from kt_exp.models.split import TopEncoder

TRAINS_TEXT = ("text", "both", "all")


def trained_parameters(model: Model, strategy: str) -> dict[str, Parameter]:
    """Return the named parameters that `strategy` trains; all others stay frozen.

    - `visual` (paper C.1); `visual_trunk` is the same without the projection (authors' script).
    - `text`, `both`, `projection`: the alternatives of supplementary E.1, Fig. 6.
    - `visual_decoder`: `visual` and the text decoder of a captioner (supplementary Tab. 6, †).
    - `all`: the whole network.

    Of the top of an image encoder (`models.split`), the layers above the cut alone are trained.

    Raises:
        UserError: the model has no such parameters.
    """
    if strategy == "all":
        return dict(model.module.named_parameters())
    towers = model.towers()
    visual, projection, text = towers["visual"], towers["visual_projection"], towers["text"]
    decoder = towers.get("decoder", {})
    chosen = {
        "visual": visual,
        "visual_trunk": {name: p for name, p in visual.items() if name not in projection},
        "projection": projection,
        "text": text,
        "both": visual | text,
        "visual_decoder": decoder and visual | decoder,
    }[strategy]
    if not chosen:
        part = f" above the cut inversion.layers={model.layers}" \
            if isinstance(model, TopEncoder) else ""
        raise UserError("finetune.strategy", f"the model has no parameters for '{strategy}'{part}",
                        "choose visual or all")
    return chosen
