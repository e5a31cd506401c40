"""A world of plain colours: images of one colour, and a model that sees and reads colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fixtures.images import COLOURS
from PIL import Image
from torch import Tensor

from kt_exp.benchmarks import pixels
from kt_exp.data.image_files import ImageFiles


class ColourModel:
    """Embeds an image as its mean colour, and a text as the mean of the colours it names."""

    image_size, max_text_tokens, logit_scale = 4, 77, torch.tensor(100.0)

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.module = torch.nn.Identity()
        self.to_tensor = colour_tensor
        self.batches: list[int] = []

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        self.batches.append(len(images))
        return F.normalize(images.mean(dim=(2, 3)), dim=-1)

    def encode_text(self, captions: Sequence[str], normalize: bool = True) -> Tensor:
        self.batches.append(len(captions))
        found = [[rgb for word, rgb in COLOURS.items() if word in text] for text in captions]
        return F.normalize(torch.stack([torch.tensor(rgb).float().mean(0) for rgb in found]))


def colour_tensor(image: Image.Image) -> Tensor:
    pixels = np.array(image.resize((4, 4)))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


@pytest.fixture(autouse=True)
def nothing_in_memory() -> None:
    """Images that another test has read are read again."""
    pixels.forget()


@pytest.fixture
def opened(monkeypatch) -> list[int]:
    """The images that are read from disk in this process, in order."""
    read: list[int] = []
    original = ImageFiles.open
    monkeypatch.setattr(ImageFiles, "open",
                        lambda images, index: read.append(index) or original(images, index))
    return read


@pytest.fixture
def colour_model() -> ColourModel:
    return ColourModel()


@pytest.fixture
def silent() -> Callable[..., Any]:
    """A progress bar that shows nothing."""

    class Silent:
        def advance(self, n: int = 1, **fields: Any) -> None: ...

    @contextmanager
    def progress(description: str, total: int) -> Iterator[Silent]:
        yield Silent()

    return progress
