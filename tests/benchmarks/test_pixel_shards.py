"""Pixels kept in the store: another process opens no image, and sees the same ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kt_exp.benchmarks import pixels
from kt_exp.benchmarks.embedding import embed_images, image_batches
from kt_exp.benchmarks.pixels import KIND
from kt_exp.data.image_files import ImageFiles
from kt_exp.errors import UserError
from kt_exp.models.preprocessing import Preprocessing
from kt_exp.store import Store

COUNT, SHARD, ONE = 7, 3, 3 * 4 * 4  # images, images to an entry, bytes of an image


class Settings:
    """Of a benchmark: how images are loaded."""

    def __init__(self, batch_size: int = 2, workers: int = 0, on_bad_image: str = "error") -> None:
        self.batch_size, self.workers, self.on_bad_image = batch_size, workers, on_bad_image


@pytest.fixture(autouse=True)
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(pixels, "SHARD_BYTES", SHARD * ONE + 1)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store", pixel_bytes=2**20)


@pytest.fixture
def model(colour_model):
    """A model that says what it does to images."""
    colour_model.to_tensor = Preprocessing(colour_model.to_tensor, "colours", 4)
    return colour_model


@pytest.fixture
def images(tmp_path) -> ImageFiles:
    files = [tmp_path / f"{i}.png" for i in range(COUNT)]
    for number, file in enumerate(files):
        noise = np.random.default_rng(number).integers(256, size=(6, 6, 3)).astype(np.uint8)
        Image.fromarray(noise).save(file)
    return ImageFiles(tmp_path, files, list(range(COUNT)))


def seen(model, images, store, settings=None, start=0):
    """All pixels and labels from `start` on, as a new process gets them."""
    pixels.forget()
    settings = settings or Settings()
    found = list(image_batches(model, images, settings, settings.batch_size, start, store))
    assert all(len(batch.labels) + len(batch.problems) == settings.batch_size
               for batch in found[:-1])
    return torch.cat([batch.pixels for batch in found if len(batch.labels)]), \
        torch.cat([batch.labels for batch in found]).tolist()


def test_a_second_evaluation_opens_no_image_and_embeds_the_same(
        model, images, store, silent, opened) -> None:
    plain = embed_images(model, images, Settings(), silent, "known")
    pixels.forget()
    first = embed_images(model, images, Settings(), silent, "known", store=store)
    del opened[:]
    pixels.forget()
    model.module = torch.nn.Identity()  # with other weights
    again = embed_images(model, images, Settings(), silent, "known", store=Store(store.root, 1000))
    assert opened == []
    for other in (first, again):
        assert torch.equal(other.embeddings, plain.embeddings)
        assert torch.equal(other.labels, plain.labels)


ANOTHER_PROCESS = """if True:
    import sys
    from pathlib import Path
    import torch
    from kt_exp.benchmarks import pixels
    from kt_exp.data.image_files import ImageFiles
    from kt_exp.store import Store
    sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
    from conftest import ColourModel
    from test_pixel_shards import *
    def refuse(images, index): raise AssertionError("opened")
    ImageFiles.open = refuse
    pixels.SHARD_BYTES = SHARD * ONE + 1
    root, model = Path(sys.argv[2]), ColourModel()
    model.to_tensor = Preprocessing(model.to_tensor, "colours", 4)
    images = ImageFiles(root, [root / f"{i}.png" for i in range(COUNT)], list(range(COUNT)))
    found, _ = seen(model, images, Store(root / "store", 2**20))
    print((found * 255).round().int().flatten().tolist())
    """


def test_another_process_opens_no_image_and_sees_the_same(model, images, store) -> None:
    expected, _ = seen(model, images, store)
    found = subprocess.run([sys.executable, "-c", ANOTHER_PROCESS, str(Path(__file__).parent),
                            str(images.root)], capture_output=True, text=True, check=False)
    assert found.stdout.strip() == str((expected * 255).round().int().flatten().tolist()), \
        found.stderr


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 99])
def test_batches_and_workers_do_not_matter(model, images, store, opened, batch_size,
                                           workers) -> None:
    plain = seen(model, images, None)
    seen(model, images, store, Settings(4, workers))
    kept = store.keys(KIND)
    assert len(kept) == 3
    del opened[:]
    found = seen(model, images, store, Settings(batch_size, workers))
    assert (opened, store.keys(KIND)) == ([], kept)
    assert torch.equal(found[0], plain[0])
    assert found[1] == plain[1]


@pytest.mark.parametrize("start", range(COUNT))
def test_who_begins_later_sees_the_rest(model, images, store, opened, start) -> None:
    whole, labels = seen(model, images, None)
    for expected in (list(range(start - start % SHARD, COUNT)), []):  # shards are decoded whole
        del opened[:]
        rest, rest_labels = seen(model, images, store, start=start)
        assert opened == expected
        assert torch.equal(rest, whole[start:])
        assert rest_labels == labels[start:]


def test_a_killed_run_leaves_the_shards_that_it_finished(model, images, store, opened) -> None:
    batches = image_batches(model, images, Settings(), 2, store=store)
    next(batches), next(batches), batches.close()  # after four images of seven
    del opened[:]
    seen(model, images, store)
    assert opened == [3, 4, 5, 6]


def test_a_changed_image_is_decoded_anew(model, images, store, paint) -> None:
    seen(model, images, store)
    paint(images.files[4], "blue")
    os.utime(images.files[4], ns=(1, 1))
    found, _ = seen(model, images, store)
    assert found[4, :, 0, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("other", ["preprocessing", "labels"])
def test_others_see_images_of_their_own(model, images, store, opened, other) -> None:
    seen(model, images, store)
    del opened[:]
    if other == "labels":
        images = ImageFiles(images.root, images.files, [0] * COUNT)
    else:
        model.to_tensor = Preprocessing(lambda image: torch.zeros(3, 4, 4), "dark", 4)
    found, labels = seen(model, images, store)
    assert opened == list(range(COUNT))
    assert labels == images.labels
    assert bool(found.any()) == (other == "labels")


def test_a_damaged_shard_is_set_aside_and_decoded_again(model, images, store, opened) -> None:
    whole, _ = seen(model, images, store)
    path = max((store.root / KIND).iterdir(), key=lambda path: path.stat().st_size)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    for decoded in (SHARD, 0):
        del opened[:]
        assert torch.equal(seen(model, images, store)[0], whole)
        assert len(opened) == decoded
    assert len(list((store.root / "damaged").iterdir())) == 1


def test_one_shard_at_a_time_is_mapped(model, images, store, monkeypatch) -> None:
    monkeypatch.setattr(pixels, "MEMORY_BYTES", 0)  # as for a set that is larger than memory
    seen(model, images, store)
    mapped = set()
    for batch in image_batches(model, images, Settings(), 1, store=store):
        del batch
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        now = {line.split()[-1] for line in lines if str(store.root / KIND) in line}
        assert len(now) == 1
        mapped |= now
    assert len(mapped) == 3


@pytest.mark.parametrize(("limit", "told"), [(COUNT * ONE - 1, True), (0, False)])
def test_above_the_limit_none_are_kept_and_it_is_said_once(model, images, store, opened, caplog,
                                                           limit, told) -> None:
    caplog.set_level("INFO")
    pixels._log_once.cache_clear()
    store.pixel_bytes = limit
    for _ in range(2):
        seen(model, images, store)
    assert opened == 2 * list(range(COUNT))
    assert store.keys(KIND) == []
    assert caplog.text.count("store.pixels_gib") == told


def test_a_model_that_does_not_say_what_it_does_keeps_them_in_memory_alone(
        colour_model, images, store, opened) -> None:
    seen(colour_model, images, store)
    list(image_batches(colour_model, images, Settings(), 2, store=store))
    assert opened == list(range(COUNT))
    assert store.keys(KIND) == []


def test_pixels_that_are_no_bytes_stay_as_they_are(model, images, store) -> None:
    model.to_tensor = Preprocessing(lambda image: torch.full((3, 4, 4), 0.3), "grey", 4)
    found, _ = seen(model, images, store)
    assert torch.equal(found, torch.full((COUNT, 3, 4, 4), 0.3))
    assert store.keys(KIND) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_told_each_time_and_an_error_where_it_shall_be(
        model, images, store, truncated, workers) -> None:
    truncated(images.files[4].with_suffix(".jpg")).rename(images.files[4])
    for _ in range(2):
        pixels.forget()
        skipping = Settings(2, workers, "skip")
        found = list(image_batches(model, images, skipping, 2, store=store))
        assert [batch.labels.tolist() for batch in found] == [[0, 1], [2, 3], [5], [6]]
        assert [problem[0] for batch in found for problem in batch.problems] == \
            [str(images.files[4])]
        assert len(store.keys(KIND)) == 2  # all but its own shard
    pixels.forget()
    with pytest.raises(UserError, match="not a readable image"):
        list(image_batches(model, images, Settings(2, workers), 2, store=store))


def test_a_full_disk_costs_time_alone(model, images, store, monkeypatch, caplog) -> None:
    whole, _ = seen(model, images, None)

    def full(*arguments):
        raise UserError("store.root", "cannot write (no space)", "free some space")

    monkeypatch.setattr(Store, "commit", full)
    assert torch.equal(seen(model, images, store)[0], whole)
    assert "no space" in caplog.text
