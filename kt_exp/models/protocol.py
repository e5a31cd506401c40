"""What a stage may ask of a model: stages know these protocols, never a concrete model.

Images are float tensors `(B, 3, H, W)` in [0, 1] at the model's own size; normalisation lives
inside the model. Scores and embeddings are fp32, whatever the precision of the computation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

Scorer = Callable[[Tensor], Tensor]


@runtime_checkable
class Model(Protocol):
    """A vision-language model: what inversion and fine-tuning need of any of them."""

    device: torch.device
    image_size: int
    max_text_tokens: int

    @property
    def module(self) -> torch.nn.Module:
        """The network itself: for train/eval mode, freezing, and its state."""
        ...

    def scorer(self, captions: Sequence[str], distance: str = "cosine") -> Scorer:
        """Encode B captions once; return images `(B, 3, H, W)` → scores `(B,)`, higher is closer.

        Differentiable in the images. `distance` is one of cosine, l2, l2_unnormalized.

        Raises:
            UserError: the model knows no such distance.
        """
        ...

    def score(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Return the match of image i with caption i, `(B,)`: what inversion maximises."""
        ...

    def towers(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        """Return the named parameters of each part that a strategy freezes or trains.

        Keys: `visual` (projection included), `visual_projection`, `text`; a model with more parts
        adds its own (`decoder`).
        """
        ...

    def count_tokens(self, caption: str) -> int:
        """Return the tokens that `caption` takes, start and end tokens included, untruncated."""
        ...

    def to_tensor(self, image: Image.Image) -> Tensor:
        """Return a PIL image as the model wants it, `(3, image_size, image_size)` in [0, 1]."""
        ...

    def fingerprint(self) -> str:
        """Return a hash of architecture and weights as they are now."""
        ...

    def export(self, folder: Path) -> None:
        """Write the model as it is now, in a format that its own library loads."""
        ...


@runtime_checkable
class DualEncoder(Model, Protocol):
    """A model with separate image and text encoders into one space (CLIP and its kin)."""

    @property
    def logit_scale(self) -> Tensor:
        """The inverse temperature learned at pre-training, a positive scalar."""
        ...

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        """Return image embeddings `(B, D)`, unit norm unless `normalize` is off."""
        ...

    def encode_text(self, captions: Sequence[str], normalize: bool = True) -> Tensor:
        """Return text embeddings `(T, D)`, unit norm unless `normalize` is off.

        A caption longer than `max_text_tokens` is truncated; `concepts.py` refuses it before.
        """
        ...
