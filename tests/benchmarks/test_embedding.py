from __future__ import annotations

import pickle
from dataclasses import dataclass
from types import SimpleNamespace

import open_clip
import pytest
import torch

from kt_exp.benchmarks.embedding import embed_images, text_classifier
from kt_exp.data.image_files import ImageFiles
from kt_exp.errors import UserError


@dataclass
class Settings:
    batch_size: int = 2
    workers: int = 0
    on_bad_image: str = "error"


@pytest.fixture
def images(tmp_path, paint):
    colours = ("red", "green", "blue", "red", "yellow")
    files = [paint(tmp_path / f"{i}.png", colour) for i, colour in enumerate(colours)]
    return ImageFiles(tmp_path, files, [0, 1, 2, 0, 3])


@pytest.fixture
def spoiled(images, truncated):
    """The same images, two of them unreadable: 1 (not an image) and 4 (truncated)."""
    images.files[1].write_text("not a picture")
    truncated(images.files[4].with_suffix(".jpg")).rename(images.files[4])
    return images


@pytest.mark.parametrize("workers", [0, 2])
def test_embeddings_come_in_order_with_their_labels(colour_model, images, silent, workers):
    found = embed_images(colour_model, images, Settings(workers=workers), silent, "known")
    assert found.labels.tolist() == [0, 1, 2, 0, 3]
    half = 0.5 ** 0.5
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [half, half, 0]]
    torch.testing.assert_close(found.embeddings, torch.tensor(expected), atol=1e-6, rtol=0)
    assert found.skipped == []
    assert colour_model.batches == [2, 2, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_images_are_listed_and_the_rest_stays_in_order(
    colour_model, spoiled, silent, workers
):
    settings = Settings(workers=workers, on_bad_image="skip")
    found = embed_images(colour_model, spoiled, settings, silent, "known")
    assert found.labels.tolist() == [0, 2, 0]
    assert found.embeddings.argmax(1).tolist() == [0, 2, 0]
    assert found.skipped == [str(spoiled.files[1]), str(spoiled.files[4])]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_stops_with_its_path(colour_model, spoiled, silent, workers):
    with pytest.raises(UserError, match="not a readable image") as caught:
        embed_images(colour_model, spoiled, Settings(workers=workers), silent, "known")
    assert caught.value.where == str(spoiled.files[1])


def test_a_whole_batch_may_be_bad(colour_model, images, silent):
    for file in images.files[:2]:
        file.write_text("not a picture")
    found = embed_images(colour_model, images, Settings(on_bad_image="skip"), silent, "known")
    assert found.labels.tolist() == [2, 0, 3]


def test_no_readable_image_is_an_error(colour_model, images, silent):
    for file in images.files:
        file.write_text("not a picture")
    with pytest.raises(UserError, match="known: not one readable image"):
        embed_images(colour_model, images, Settings(on_bad_image="skip"), silent, "known")


def test_a_model_that_diverged_is_reported(colour_model, images, silent):
    colour_model.encode_image = lambda pixels: torch.full((len(pixels), 3), float("nan"))
    with pytest.raises(UserError, match="embeddings are not finite"):
        embed_images(colour_model, images, Settings(), silent, "known")


def test_the_model_is_evaluated_in_eval_mode(colour_model, images, silent):
    colour_model.module.train()
    embed_images(colour_model, images, Settings(), silent, "known")
    assert not colour_model.module.training


def test_images_can_travel_to_spawned_loader_processes(images):
    assert pickle.loads(pickle.dumps(images)) == images


def test_a_class_is_the_normalised_mean_of_its_unit_norm_prompts(colour_model, silent):
    prompts = [["red"], ["red", "green", "green"], ["blue", "red"]]
    found = text_classifier(colour_model, prompts, 4, silent, "names")
    expected = torch.tensor([[1.0, 0, 0], [1.0, 2, 0], [1.0, 0, 1]])
    expected /= expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected)
    assert colour_model.batches == [4, 2]


def test_the_classifier_is_that_of_open_clip(silent):
    torch.manual_seed(0)
    network = open_clip.CLIP(
        embed_dim=8, vision_cfg={"image_size": 32, "patch_size": 16, "width": 64, "layers": 1},
        text_cfg={"width": 32, "heads": 2, "layers": 1},
    ).eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    names, templates = ["tench", "bee", "vase"], ["a photo of a {}.", "the {}."]
    model = SimpleNamespace(
        module=network, device=torch.device("cpu"),
        encode_text=lambda captions: network.encode_text(tokenizer(captions), normalize=True),
    )
    prompts = [[template.format(name) for template in templates] for name in names]
    found = text_classifier(model, prompts, 4, silent, "names")
    expected = open_clip.build_zero_shot_classifier(network, tokenizer, names, templates)
    torch.testing.assert_close(found, expected.T)


def test_chunks_do_not_change_the_classifier(colour_model, silent):
    prompts = [["red", "blue"], ["yellow"], ["green"]]
    whole = text_classifier(colour_model, prompts, 100, silent, "names")
    for chunk in (1, 2, 3):
        assert torch.equal(text_classifier(colour_model, prompts, chunk, silent, "names"), whole)
