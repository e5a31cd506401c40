"""The protocols of models: stages depend on these, never on a concrete model.

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

from kt_exp.config.checks import choice, number

Scorer = Callable[[Tensor], Tensor]


@runtime_checkable
class Model(Protocol):
    """A vision-language model, as inversion and fine-tuning need it."""

    device: torch.device
    image_size: int
    max_text_tokens: int

    @property
    def module(self) -> torch.nn.Module:
        """The network itself: for its mode, its state, and to freeze it."""
        ...

    def scorer(self, captions: Sequence[str], distance: str = "cosine") -> Scorer:
        """Encode B captions once; return a function from images `(B, 3, H, W)` to scores `(B,)`.

        A higher score is a better match. Differentiable in the images. `distance` is one of cosine,
        l2, l2_unnormalized (dual encoders), match (pair matchers: the log-probability of a match).

        Raises:
            UserError: the model has no such distance.
        """
        ...

    def score(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Return the score of image i with caption i, `(B,)`, which inversion maximises."""
        ...

    def towers(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        """Return the named parameters of each part that a fine-tuning strategy may train.

        Keys: `visual` (projection included), `visual_projection`, `text`; a model with more parts
        adds its own (`decoder`, `heads`). An empty dict: the model has no such part.
        """
        ...

    def count_tokens(self, caption: str) -> int:
        """Return the tokens that `caption` takes, start and end tokens included, untruncated."""
        ...

    def to_tensor(self, image: Image.Image) -> Tensor:
        """Return a PIL image as the model's input, `(3, image_size, image_size)` in [0, 1].

        If it is a `SignedTransform`, its output for benchmarks' images is kept in the store.
        """
        ...

    def fingerprint(self) -> str:
        """Return a hash of the architecture and the current weights."""
        ...

    def export(self, folder: Path) -> None:
        """Write the model with its current weights, in a format that its own library loads."""
        ...


@runtime_checkable
class SignedTransform(Protocol):
    """A `to_tensor` with a signature (`models.preprocessing.Preprocessing` is one).

    Attributes:
        signature: transforms of equal signatures give equal pixels, whatever the model.
    """

    signature: str

    def __call__(self, image: Image.Image) -> Tensor:
        ...


@runtime_checkable
class DualEncoder(Model, Protocol):
    """A model with separate image and text encoders into a joint space, as CLIP."""

    @property
    def logit_scale(self) -> Tensor:
        """The inverse temperature learned at pre-training, a positive scalar."""
        ...

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        """Return image embeddings `(B, D)`, unit norm unless `normalize` is off."""
        ...

    def encode_text(self, captions: Sequence[str], normalize: bool = True) -> Tensor:
        """Return text embeddings `(T, D)`, unit norm unless `normalize` is off.

        A caption longer than `max_text_tokens` is truncated; concept sets refuse such captions.
        """
        ...


@runtime_checkable
class ProjectedEncoder(DualEncoder, Protocol):
    """A dual encoder whose image tower ends in a linear map, exactly `visual_projection`.

    `encode_image(images)` is `project(encode_trunk(images))`. If only the map is trained, the
    features of each image are computed once.
    """

    def encode_trunk(self, images: Tensor) -> Tensor:
        """Return the features before the linear map, `(B, F)`, fp32."""
        ...

    def project(self, features: Tensor, normalize: bool = True) -> Tensor:
        """Return the embeddings of `features` `(B, F)`, as `encode_image` does."""
        ...


@dataclass(frozen=True)
class SplitTower:
    """An image tower, cut in two at the input of one of its layers.

    Features at the cut are fp32: tokens `(B, N, C)` or maps `(B, C, H, W)`.

    Attributes:
        bottom: images `(B, 3, H, W)` → features.
        trunk: features → the input of the projection, `(B, F)`, where the model is a
            `ProjectedEncoder`; of another model, the output of the last layer.
        top: features → un-normalised embeddings `(B, D)`, fp32.
        parameters: names of the parameters above the cut.
    """

    bottom: Callable[[Tensor], Tensor]
    trunk: Callable[[Tensor], Tensor]
    top: Callable[[Tensor], Tensor]
    parameters: frozenset[str]


@runtime_checkable
class LayeredEncoder(DualEncoder, Protocol):
    """A dual encoder whose image tower is a stack of layers: a ViT's blocks, a ResNet's stages."""

    @property
    def layer_count(self) -> int:
        """The number of layers; 0 if this tower's layers are not known."""
        ...

    def split(self, above: int) -> SplitTower:
        """Return the tower, cut below its last `above` layers, 1 ≤ `above` ≤ `layer_count`."""
        ...


class PatchTower(Protocol):
    """A frozen image tower that also takes images of other sizes, and subsets of patches."""

    patch_size: int
    grid: int  # patches along a side of an image of the model's own size

    def __call__(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return un-normalised embeddings `(B, D)`, fp32, of images `(B, 3, H, H)` in [0, 1].

        H is any multiple of the patch size. `kept` `(B, K)` are the indices of the patches to use.
        """
        ...

    def encode_top(self, tokens: Tensor, above: int) -> Tensor:
        """Return un-normalised embeddings `(B, D)`, fp32, of the last `above` layers' input.

        It is `(B, N, C)`, as `SplitTower.bottom` returns it.
        """
        ...


@runtime_checkable
class PatchEncoder(DualEncoder, Protocol):
    """A dual encoder whose image tower has a faster form for frozen weights."""

    def patch_tower(self, half: bool = False) -> PatchTower:
        """Return the tower with its current weights: `encode_image` up to rounding.

        With `half` it computes in bf16, whatever the model's own precision.
        """
        ...


@runtime_checkable
class ClassPromptEncoder(DualEncoder, Protocol):
    """A dual encoder that embeds a prompt differently beside the other prompts of its class."""

    def encode_class(self, prompts: Sequence[str]) -> Tensor:
        """Return the unit-norm embeddings `(P, D)` of all prompts of one class."""
        ...


@runtime_checkable
class Captioner(DualEncoder, Protocol):
    """A dual encoder with a text decoder on top (CoCa)."""

    def caption_loss(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Return the cross-entropy of the next token, a scalar: the mean over all tokens.

        Supplementary Eq. 3 has their sum; with the mean a caption's length does not matter.
        """
        ...

    def generate(self, images: Tensor, settings: GenerationSettings) -> list[str]:
        """Return a caption of each image `(B, 3, H, W)`."""
        ...


@runtime_checkable
class TransformerTrunk(DualEncoder, Protocol):
    """A dual encoder whose image tower is a stack of transformer layers, as M2IB needs it."""

    @property
    def trunk_layers(self) -> Sequence[torch.nn.Module]:
        """The layers, first to last; each one's output is tokens `(B, N, C)`."""
        ...

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens before the patches' (class and register tokens), 0 or more."""
        ...


@runtime_checkable
class PairMatcher(Model, Protocol):
    """A model that classifies whether an image and a caption match, encoding them jointly (ViLT).
    """

    def match(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Return the logits of image i with caption i, `(B, 2)`: no match, match."""
        ...

    def embed_images(self, images: Tensor) -> Tensor:
        """Return the patch embeddings `(B, P, C)`, which depend on the images alone."""
        ...

    def embed_captions(self, captions: Sequence[str]) -> EmbeddedCaptions:
        """Return the token embeddings, which depend on the captions alone.

        They are padded to the longest of these captions.
        """
        ...

    def match_block(self, images: Tensor, captions: EmbeddedCaptions) -> Tensor:
        """Return the score of every pair, `(I, T)`, by which pairs are ranked; higher is better.

        Takes what `embed_images` and `embed_captions` return.
        """
        ...

    def mask_words(self, captions: Sequence[str], probability: float,
                   generator: torch.Generator) -> MaskedCaptions:
        """Return the captions with random whole words masked, at least one in each."""
        ...

    def masked_lm_loss(self, images: Tensor, masked: MaskedCaptions) -> Tensor:
        """Return the mean cross-entropy of the masked tokens, a scalar."""
        ...


class EmbeddedCaptions(NamedTuple):
    """Token embeddings `(T, L, C)` and the mask `(T, L)`, 1 at tokens and 0 at padding."""

    tokens: Tensor
    mask: Tensor


class MaskedCaptions(NamedTuple):
    """Token ids with words masked `(B, L)`, the padding mask `(B, L)`, and the labels `(B, L)`: the
    true ids of masked tokens, -100 elsewhere."""

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
