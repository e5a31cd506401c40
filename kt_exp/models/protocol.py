"""What a stage may ask of a model: stages know these protocols, never a concrete model.

Images are float tensors `(B, 3, H, W)` in [0, 1] at the model's own size; normalisation lives
inside the model. Scores and embeddings are fp32, whatever the precision of the computation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from kt_exp.checks import choice, number

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

        Differentiable in the images. `distance` is one of cosine, l2, l2_unnormalized (dual
        encoders), match (pair matchers: the log-probability of a match).

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
        adds its own (`decoder`, `heads`). An empty dict: the model has no such part.
        """
        ...

    def count_tokens(self, caption: str) -> int:
        """Return the tokens that `caption` takes, start and end tokens included, untruncated."""
        ...

    def to_tensor(self, image: Image.Image) -> Tensor:
        """Return a PIL image as the model wants it, `(3, image_size, image_size)` in [0, 1].

        Where it is a `SignedTransform`, what it makes of benchmarks' images is kept in the store.
        """
        ...

    def fingerprint(self) -> str:
        """Return a hash of architecture and weights as they are now."""
        ...

    def export(self, folder: Path) -> None:
        """Write the model as it is now, in a format that its own library loads."""
        ...


@runtime_checkable
class SignedTransform(Protocol):
    """A `to_tensor` that says what it does (`models.preprocessing.Preprocessing` is one).

    Attributes:
        signature: two of the same make the same pixels of an image, whatever the model.
    """

    signature: str

    def __call__(self, image: Image.Image) -> Tensor:
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


@runtime_checkable
class ProjectedEncoder(DualEncoder, Protocol):
    """A dual encoder whose image tower ends in a linear map: `visual_projection`, no more, no less.

    `encode_image(images)` is `project(encode_trunk(images))`. Where only the map is trained, what
    the trunk makes of an image is computed once.
    """

    def encode_trunk(self, images: Tensor) -> Tensor:
        """Return what the map is applied to, `(B, F)`, fp32."""
        ...

    def project(self, features: Tensor, normalize: bool = True) -> Tensor:
        """Return the embeddings of `features` `(B, F)`, as `encode_image` does."""
        ...


class PatchTower(Protocol):
    """A frozen image tower that takes images of other sizes too, and parts of images."""

    patch_size: int
    grid: int  # patches along a side of an image of the model's own size

    def __call__(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return un-normalised embeddings `(B, D)`, fp32, of images `(B, 3, H, H)` in [0, 1].

        H is any multiple of the patch. `kept` `(B, K)` numbers the patches that are looked at.
        """
        ...


@runtime_checkable
class PatchEncoder(DualEncoder, Protocol):
    """A dual encoder that offers its image tower as one that does less work."""

    def patch_tower(self, half: bool = False) -> PatchTower:
        """Return the tower with the weights as they are now: `encode_image`, but for rounding.

        With `half` it computes in bf16, whatever the model's own precision.
        """
        ...


@runtime_checkable
class Captioner(DualEncoder, Protocol):
    """A dual encoder with a text decoder on top (CoCa)."""

    def caption_loss(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Return the mean cross-entropy of each next token (supplementary Eq. 3), a scalar."""
        ...

    def generate(self, images: Tensor, settings: GenerationSettings) -> list[str]:
        """Return a caption of each image `(B, 3, H, W)`."""
        ...


@runtime_checkable
class TransformerTrunk(DualEncoder, Protocol):
    """A dual encoder whose image tower is a stack of transformer layers (M2IB looks into it)."""

    @property
    def trunk_layers(self) -> Sequence[torch.nn.Module]:
        """The layers, first to last; each one's output is tokens `(B, N, C)`."""
        ...

    @property
    def prefix_tokens(self) -> int:
        """Tokens before those of the patches (class and register tokens), 0 or more."""
        ...


@runtime_checkable
class PairMatcher(Model, Protocol):
    """A model that sees an image and a caption together and tells whether they match (ViLT)."""

    def match(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Return the logits of image i with caption i, `(B, 2)`: no match, match."""
        ...

    def embed_images(self, images: Tensor) -> Tensor:
        """Return what can be computed of images alone, `(B, P, C)`: their patch embeddings."""
        ...

    def embed_captions(self, captions: Sequence[str]) -> EmbeddedCaptions:
        """Return what can be computed of captions alone: their token embeddings.

        Padded to the longest of them, so that short captions together cost little.
        """
        ...

    def match_block(self, images: Tensor, captions: EmbeddedCaptions) -> Tensor:
        """Return the scores of every pair, `(I, T)`: log-odds of a match.

        Takes what `embed_images` and `embed_captions` return.
        """
        ...

    def mask_words(self, captions: Sequence[str], probability: float,
                   generator: torch.Generator) -> MaskedCaptions:
        """Return the captions with whole words masked at random, at least one in each."""
        ...

    def masked_lm_loss(self, images: Tensor, masked: MaskedCaptions) -> Tensor:
        """Return the mean cross-entropy of the masked tokens, a scalar."""
        ...


class EmbeddedCaptions(NamedTuple):
    """Token embeddings `(T, L, C)` and which of them are real, `(T, L)`, 1 or 0."""

    tokens: Tensor
    mask: Tensor


class MaskedCaptions(NamedTuple):
    """Token ids with masks in them `(B, L)`, which are real `(B, L)`, and the true ids `(B, L)`
    of the masked ones, -100 elsewhere."""

    ids: Tensor
    mask: Tensor
    labels: Tensor


@dataclass(kw_only=True)
class GenerationSettings:
    """How captions are decoded (`benchmark.generation`)."""

    method: str = choice("beam", "sample")
    beams: int = number(minimum=1)
    max_tokens: int = number(minimum=1)
    min_tokens: int = number(minimum=1)
    temperature: float = number(above=0)
    top_p: float = number(above=0, maximum=1)
    seed: int = number(minimum=0)
