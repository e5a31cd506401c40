"""Pixels kept in memory: bit-equal, of these images and no others, within a limit."""

from __future__ import annotations

import gc
import os
import weakref

import pytest
import torch
from torchvision.transforms import v2

from kt_exp.benchmarks import pixels
from kt_exp.benchmarks.embedding import image_batches
from kt_exp.benchmarks.pixels import as_bytes, joined
from kt_exp.data.image_files import ImageFiles
from kt_exp.errors import UserError

ONE = 3 * 4 * 4  # bytes of an image of colour_model


class Settings:
    """Of a benchmark: how images are loaded."""

    batch_size, workers = 2, 0

    def __init__(self, on_bad_image: str = "error") -> None:
        self.on_bad_image = on_bad_image


@pytest.fixture
def images(tmp_path, paint) -> ImageFiles:
    files = [paint(tmp_path / f"{i}.png", colour) for i, colour in enumerate(("red", "green"))]
    return ImageFiles(tmp_path, files, [0, 1])


LEVELS = torch.arange(256).reshape(4, 1, 8, 8).float()  # each value that 8 bits can have


@pytest.mark.parametrize(("pixels", "kept_as"), [
    (LEVELS / 255, torch.uint8),
    (LEVELS * (1 / 255), torch.uint8),
    (v2.functional.to_dtype(LEVELS.byte(), scale=True), torch.uint8),
    (torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.float32),
    (torch.linspace(-1, 2, 256).reshape(4, 1, 8, 8), torch.float32),
], ids=["divided", "multiplied", "by torchvision", "floats", "beyond"])
def test_pixels_are_kept_as_bytes_where_that_loses_nothing(pixels, kept_as) -> None:
    assert as_bytes(pixels).pixels.dtype == kept_as
    assert torch.equal(as_bytes(pixels).on("cpu"), pixels)


@pytest.mark.parametrize(("pixels", "kept_as"), [
    (LEVELS / 255, torch.uint8), (LEVELS * (1 / 255), torch.uint8), (LEVELS / 256, torch.float32)])
def test_a_black_image_among_others_changes_nothing(pixels, kept_as) -> None:
    with_black = torch.cat([torch.zeros(1, 1, 8, 8), pixels])
    whole = joined([as_bytes(one) for one in with_black.split(1)])
    assert (len(whole.problems), whole.pixels.dtype) == (5, kept_as)
    assert torch.equal(whole.on("cpu"), with_black)


def test_where_a_set_does_not_fit_beside_the_others_it_takes_their_place(
        colour_model, images, opened, paint, monkeypatch) -> None:
    monkeypatch.setattr(pixels, "MEMORY_BYTES", 3 * ONE)
    other = ImageFiles(images.root, [paint(images.root / f"{i}.jpg", "blue") for i in (2, 3)],
                       [0, 0])
    for some, read in ((images, True), (images, False), (other, True), (other, False),
                       (images, True)):
        del opened[:]
        list(image_batches(colour_model, some, Settings(), 2))
        assert opened == ([0, 1] if read else [])


def test_a_set_that_was_not_read_to_its_end_is_not_kept(colour_model, images, opened) -> None:
    next(image_batches(colour_model, images, Settings(), 1))
    assert opened == [0]
    list(image_batches(colour_model, images, Settings(), 1))
    assert opened == [0, 0, 1]


def test_images_in_memory_do_not_keep_their_model_alive(colour_model, images) -> None:
    network = weakref.ref(colour_model.module)
    list(image_batches(colour_model, images, Settings(), 2))
    colour_model.module = None
    gc.collect()
    assert network() is None


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


@pytest.mark.parametrize("other", ["model", "labels"])
def test_others_see_images_of_their_own(colour_model, images, opened, other) -> None:
    list(image_batches(colour_model, images, Settings(), 2))
    if other == "model":
        colour_model.module = torch.nn.Identity()
    if other == "labels":
        images = ImageFiles(images.root, images.files, [1, 0])
    list(image_batches(colour_model, images, Settings(), 2))
    assert opened == [0, 1, 0, 1]


def test_the_size_of_batches_does_not_matter(colour_model, images, opened) -> None:
    list(image_batches(colour_model, images, Settings(), 2))
    for size, start, expected in ((1, 0, [[0], [1]]), (3, 0, [[0, 1]]), (2, 1, [[1]])):
        found = list(image_batches(colour_model, images, Settings(), size, start))
        assert [batch.labels.tolist() for batch in found] == expected
        assert torch.cat([batch.pixels for batch in found])[-1, :, 0, 0].tolist() == [0, 1, 0]
    assert opened == [0, 1]


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
        colour_model, images, opened, monkeypatch) -> None:
    monkeypatch.setattr(pixels, "MEMORY_BYTES", ONE)
    for _ in range(2):
        list(image_batches(colour_model, images, Settings(), 2))
    assert opened == [0, 1, 0, 1]
