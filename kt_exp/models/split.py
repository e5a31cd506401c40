"""The top of an image encoder, Ψ_V, as a model of its own, which takes features for images.

Inversion and fine-tuning then run on features as they do on images (supplementary B.2.1, Eq. 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from kt_exp.errors import UserError
from kt_exp.models.protocol import (
    DualEncoder,
    LayeredEncoder,
    Model,
    PatchEncoder,
    ProjectedEncoder,
    Scorer,
    SplitTower,
)
from kt_exp.models.similarity import embedding_closeness, embedding_scorer, of_unit_norm

PROJECTION = "projection"


class TopEncoder:
    """The layers of a dual encoder above a cut: `models.protocol.DualEncoder` on features.

    Its "images" are features at the cut: tokens `(B, N, C)`, maps `(B, C, H, W)`, or the input of
    the projection `(B, F)`. It shares the model's weights; `towers` has those above the cut alone.
    """

    def __init__(self, model: DualEncoder, layers: str, cut: SplitTower) -> None:
        self.model, self.layers, self._cut = model, layers, cut
        self.device = model.device
        self.image_size, self.max_text_tokens = model.image_size, model.max_text_tokens

    @torch.no_grad()
    def features_of(self, images: Tensor) -> Tensor:
        """Return the features at the cut, fp32, of images `(B, 3, H, W)`."""
        return self._cut.bottom(images.to(self.device)).float()

    @property
    def module(self) -> torch.nn.Module:
        return self.model.module

    @property
    def logit_scale(self) -> Tensor:
        return self.model.logit_scale

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        embedded = self._cut.top(images.to(self.device))
        return F.normalize(embedded, dim=-1) if normalize else embedded

    def encode_text(self, captions: Sequence[str], normalize: bool = True) -> Tensor:
        return self.model.encode_text(captions, normalize)

    def scorer(self, captions: Sequence[str], distance: str = "cosine") -> Scorer:
        return embedding_scorer(self, captions, distance)

    def lean_scorer(self, captions: Sequence[str], distance: str) -> Scorer:
        """As `scorer`, by the faster form of a `PatchEncoder`'s tower where there is one."""
        if not isinstance(self.model, PatchEncoder) or self.layers == PROJECTION:
            return self.scorer(captions, distance)
        tower, above = self.model.patch_tower(), layers_above(self.layers)
        closeness, unit = embedding_closeness(self, captions, distance), of_unit_norm(distance)

        def score(features: Tensor) -> Tensor:
            embedded = tower.encode_top(features, above)
            return closeness(F.normalize(embedded, dim=-1) if unit else embedded)

        return score

    def score(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        return self.scorer(captions)(images)

    def towers(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        whole = self.model.towers()
        above = {part: {name: parameter for name, parameter in whole[part].items()
                        if name in self._cut.parameters}
                 for part in ("visual", "visual_projection")}
        return {**whole, **above}

    def count_tokens(self, caption: str) -> int:
        return self.model.count_tokens(caption)

    def to_tensor(self, image: Image.Image) -> Tensor:
        return self.model.to_tensor(image)

    def fingerprint(self) -> str:
        return self.model.fingerprint()

    def export(self, folder: Path) -> None:
        self.model.export(folder)


class ProjectedTop(TopEncoder):
    """The same of a `ProjectedEncoder`, and one itself: trunk features are computed once."""

    def __init__(self, model: ProjectedEncoder, layers: str, cut: SplitTower) -> None:
        super().__init__(model, layers, cut)
        self._projected = model

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        return self.project(self.encode_trunk(images), normalize)

    def encode_trunk(self, images: Tensor) -> Tensor:
        return self._cut.trunk(images.to(self.device))

    def project(self, features: Tensor, normalize: bool = True) -> Tensor:
        return self._projected.project(features, normalize)


def split(model: Model, layers: str) -> TopEncoder:
    """Return the top of a model's image encoder.

    Args:
        layers: `last_K` for its last K layers and all that follows them, or `projection` for its
            last linear map alone.

    Raises:
        UserError: the model's image encoder cannot be cut there.
    """
    if layers == PROJECTION:
        if not isinstance(model, ProjectedEncoder):
            raise UserError("inversion.layers", f"{type(model).__name__} has no image encoder that "
                            "ends in one linear map", "choose last_1 or all")
        parameters = frozenset(model.towers()["visual_projection"])
        return ProjectedTop(model, layers, SplitTower(
            model.encode_trunk, Tensor.float, lambda features: model.project(features, False),
            parameters))
    if not isinstance(model, LayeredEncoder) or not model.layer_count:
        raise UserError("inversion.layers", f"the layers of {type(model).__name__}'s image encoder "
                        "are not known", "set inversion.layers=all")
    above = layers_above(layers)
    if above > model.layer_count:
        raise UserError("inversion.layers", f"{layers} of {model.layer_count} layers",
                        f"choose at most last_{model.layer_count}, or all")
    cut = model.split(above)
    return ProjectedTop(model, layers, cut) if isinstance(model, ProjectedEncoder) \
        else TopEncoder(model, layers, cut)


def layers_above(layers: str) -> int:
    """Return K of `last_K`."""
    return int(layers.removeprefix("last_"))
