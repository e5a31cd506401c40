"""The images that fine-tuning learns from."""

import numpy as np
import pytest
import torch
from fixtures.configs import preset
from omegaconf import OmegaConf
from PIL import Image

from kt_exp.concepts import Concept
from kt_exp.finetune.images import TrainingImages
from kt_exp.inversion.settings import InversionSettings
from kt_exp.runs.artifacts import to_png
from kt_exp.store import Entry

TOWER = Concept("tower", "a tall house")


@pytest.fixture
def images(vit, settings):
    inversion = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(InversionSettings),
                                                    preset("inversion", "authors")))

    def of(**changes):
        return TrainingImages(vit, vit, "model", settings(**changes), inversion, seed=0)

    return of


def test_images_may_be_those_of_the_files_that_the_authors_train_on(vit, images, tmp_path):
    """Their inversion writes PNG files, each from its minimum to its maximum."""
    side = vit.image_size
    optimised = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 0.1
    inverted = {"tower": Entry({}, {"images": optimised})}
    for image, of_file, as_optimised in zip(
            optimised, images(images_as="png").load([TOWER], inverted),
            images().load([TOWER], inverted), strict=True):
        to_png(image, "stretch").save(tmp_path / "0.png")
        with Image.open(tmp_path / "0.png") as picture:
            read = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255
        assert torch.equal(of_file, read)
        assert torch.equal(as_optimised, image)
        assert (of_file - image).abs().max() > 0.1


def test_only_inverted_images_are_read_as_files(images):
    for source, alike in (("inverted", False), ("noise", True)):
        keys = {images(images=source, images_as=form).key(TOWER) for form in ("tensor", "png")}
        assert (len(keys) == 1) == alike


def test_images_of_a_larger_model_are_shrunk_without_aliasing(vit, images):
    side = 2 * vit.image_size
    stripes = (torch.arange(side) % 2).float().expand(1, 3, side, side)  # one pixel wide
    [shrunk] = images().load([TOWER], {"tower": Entry({}, {"images": stripes})})
    assert shrunk.shape == (3, vit.image_size, vit.image_size)
    assert shrunk[:, :, 1:-1].sub(0.5).abs().max() < 0.05  # grey, neither black nor white
