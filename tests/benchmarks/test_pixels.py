"""Batches kept in memory: bit-equal, of these images and no others, within a limit."""

from __future__ import annotations

import gc
import os
import weakref

import pytest
import torch

from kt_exp.benchmarks import scoring
from kt_exp.benchmarks.datasets import ImageFiles
from kt_exp.benchmarks.pixels import ImageBatch, Key, PixelCache
from kt_exp.benchmarks.scoring import image_batches
from kt_exp.errors import UserError


class Settings:
    """Of a benchmark: how images are loaded."""

    batch_size, workers = 2, 0

    def __init__(self, on_bad_image: str = "error") -> None:
        self.on_bad_image = on_bad_image


@pytest.fixture(autouse=True)
def cache(monkeypatch) -> PixelCache:
    monkeypatch.setattr(scoring, "_PIXELS", PixelCache())
    return scoring._PIXELS


@pytest.fixture
def opened(monkeypatch) -> list[int]:
    """The images that are read from disk, in order."""
    read: list[int] = []
    original = ImageFiles.open
    monkeypatch.setattr(ImageFiles, "open",
                        lambda images, index: read.append(index) or original(images, index))
    return read


@pytest.fixture
def images(tmp_path, paint) -> ImageFiles:
    files = [paint(tmp_path / f"{i}.png", colour) for i, colour in enumerate(("red", "green"))]
    return ImageFiles(tmp_path, files, [0, 1])


def batch(pixels: torch.Tensor) -> ImageBatch:
    return ImageBatch(pixels, torch.arange(len(pixels)), [])


def batches_of(cache: PixelCache, name: str, network: torch.nn.Module,
               pixels: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """What the cache yields for a set, and whether it had to be loaded."""
    loaded = []

    def load():
        loaded.append(True)
        yield from map(batch, pixels.split(2))

    found = list(cache.batches(Key(weakref.ref(network), name, 2), load()))
    return torch.cat([one.pixels for one in found]), bool(loaded)


@pytest.mark.parametrize("pixels", [
    torch.arange(256).float().reshape(4, 1, 8, 8) / 255,  # each value that 8 bits can have
    torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
    torch.linspace(-1, 2, 256).reshape(4, 1, 8, 8),
], ids=["bytes", "floats", "beyond"])
def test_kept_pixels_are_bit_equal(pixels) -> None:
    cache, network = PixelCache(), torch.nn.Identity()
    first, loaded = batches_of(cache, "a", network, pixels)
    second, again = batches_of(cache, "a", network, pixels)
    assert (loaded, again) == (True, False)
    assert torch.equal(first, pixels)
    assert torch.equal(second, pixels)


def test_those_not_used_for_longest_go_first_and_too_large_a_set_is_not_kept() -> None:
    cache, network = PixelCache(limit=300), torch.nn.Identity()
    small, large = torch.zeros(2, 1, 8, 8), torch.zeros(8, 1, 8, 8)  # 128 and 512 bytes
    for name in ("a", "b", "a", "c"):
        batches_of(cache, name, network, small)
    assert not batches_of(cache, "a", network, small)[1]
    assert batches_of(cache, "large", network, large)[1]
    assert batches_of(cache, "large", network, large)[1]
    assert not batches_of(cache, "c", network, small)[1]
    assert batches_of(cache, "b", network, small)[1]


def test_a_set_that_was_not_read_to_its_end_is_not_kept() -> None:
    cache, network = PixelCache(), torch.nn.Identity()
    pixels = torch.zeros(4, 1, 8, 8)
    next(cache.batches(Key(weakref.ref(network), "a", 2), map(batch, pixels.split(2))))
    assert batches_of(cache, "a", network, pixels)[1]


def test_images_of_a_model_that_is_gone_are_dropped() -> None:
    cache, gone = PixelCache(), torch.nn.Identity()
    batches_of(cache, "a", gone, torch.zeros(2, 1, 8, 8))
    del gone
    gc.collect()
    batches_of(cache, "a", torch.nn.Identity(), torch.zeros(2, 1, 8, 8))
    assert len(cache._sets) == 1


def test_images_are_read_once(colour_model, images, opened) -> None:
    first, second = (list(image_batches(colour_model, images, Settings(), 2)) for _ in range(2))
    assert opened == [0, 1]
    assert all(torch.equal(a, b) for a, b in zip(first[0], second[0], strict=True)
               if isinstance(a, torch.Tensor))


def test_a_file_that_changed_is_read_again(colour_model, images, opened, paint) -> None:
    list(image_batches(colour_model, images, Settings(), 2))
    paint(images.files[1], "blue")
    os.utime(images.files[1], ns=(1, 1))
    [after] = image_batches(colour_model, images, Settings(), 2)
    assert opened == [0, 1, 0, 1]
    assert after.pixels[1, :, 0, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("other", ["model", "size of batches", "labels"])
def test_others_see_images_of_their_own(colour_model, images, opened, other) -> None:
    list(image_batches(colour_model, images, Settings(), 2))
    if other == "model":
        colour_model.module = torch.nn.Identity()
    if other == "labels":
        images = ImageFiles(images.root, images.files, [1, 0])
    list(image_batches(colour_model, images, Settings(), 1 if other == "size of batches" else 2))
    assert opened == [0, 1, 0, 1]


def test_a_bad_image_is_told_each_time_and_an_error_where_it_shall_be(
        colour_model, images, opened) -> None:
    images.files[1].write_text("not a picture")
    for _ in range(2):
        [found] = image_batches(colour_model, images, Settings("skip"), 2)
        assert [problem[0] for problem in found.problems] == [str(images.files[1])]
        assert found.labels.tolist() == [0]
    assert opened == [0, 1]
    with pytest.raises(UserError, match="not a readable image"):
        list(image_batches(colour_model, images, Settings("error"), 2))


def test_what_is_larger_than_memory_allows_is_read_each_time(
        colour_model, images, opened, cache) -> None:
    cache.limit = 3 * 4 * 4
    for _ in range(2):
        list(image_batches(colour_model, images, Settings(), 2))
    assert opened == [0, 1, 0, 1]
