"""Image–mask pairs on disk, and the one line that each mistake gets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kt_exp.benchmarks.segmentation.masks import concept_folder, read_pairs, readable
from kt_exp.concepts import Concept
from kt_exp.errors import UserError


def check(root, on_bad_image="error"):
    return readable(read_pairs(root, 200), on_bad_image, lambda: None)


def refusal(root):
    with pytest.raises(UserError) as caught:
        check(root)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(root.parent), "…")


def test_pairs_are_read_by_name_in_order(pairs):
    lungs = read_pairs(pairs / "lungs", 200)
    assert [lungs.name(index) for index in range(len(lungs))] == [
        "images/145.jpg", "images/191.jpg"]
    assert lungs.open(0).size == (320, 384)
    assert lungs.open(0).mode == "RGB"
    assert lungs.mask(0).shape == (384, 320)
    assert lungs.mask(0).mean() == pytest.approx(0.3491, abs=1e-3)
    assert check(pairs / "lungs") == ([0, 1], [])
    assert len(read_pairs(pairs / "lungs", 200, limit=1)) == 1
    assert [lungs.take([1]).name(0), lungs[1:].name(0)] == ["images/191.jpg"] * 2


def test_pairs_may_lie_in_sub_folders(pairs):
    for kind, name in (("images", "191.jpg"), ("masks", "191.png")):
        folder = pairs / "lungs" / kind / "patient_1"
        folder.mkdir()
        (folder.parent / name).rename(folder / name)
    assert read_pairs(pairs / "lungs", 200).name(1) == "images/patient_1/191.jpg"


def test_a_concept_has_the_root_or_a_folder_of_its_name(pairs):
    tumor = Concept("brain tumor", "a bright mass")
    assert concept_folder(pairs, tumor) == pairs / "brain_tumor"
    assert concept_folder(pairs / "lungs", tumor) == pairs / "lungs"
    dax = Concept("dax", "a bright mass", images_of="brain tumor")
    assert concept_folder(pairs, dax) == pairs / "brain_tumor"
    with pytest.raises(UserError, match=r"nor a folder 'heart' with them \(found: brain_tumor"):
        concept_folder(pairs, Concept("heart", "a pump"))
    with pytest.raises(UserError, match=r"no such folder: .*nowhere; put images/ and masks/ there"):
        concept_folder(pairs / "nowhere", tumor)


def test_names_that_do_not_match_are_listed(pairs):
    (pairs / "lungs" / "masks" / "145.png").rename(pairs / "lungs" / "masks" / "154.png")
    assert refusal(pairs / "lungs") == (
        "…/lungs: no mask of images/145.jpg, and no image of masks/154.png; give each image a mask "
        "of the same name, or take the files out")


def test_two_images_of_one_name_are_refused(pairs):
    Image.new("RGB", (9, 9)).save(pairs / "lungs" / "images" / "145.png")
    assert "145.jpg and 145.png have the same name" in refusal(pairs / "lungs")


def test_empty_masks_are_listed(pairs):
    for name in ("145", "191"):
        path = pairs / "lungs" / "masks" / f"{name}.png"
        Image.fromarray(np.asarray(Image.open(path)) // 255).save(path)
    assert refusal(pairs / "lungs") == (
        "…/lungs: no pixel above 200: masks/145.png, masks/191.png; take out images without a "
        "finding, or lower benchmark.mask_threshold")
    assert readable(read_pairs(pairs / "lungs", 0), "error", lambda: None)[0] == [0, 1]


def test_masks_of_another_size_are_listed(pairs):
    Image.new("L", (320, 320), 255).save(pairs / "lungs" / "masks" / "145.png")
    assert "…/lungs: another size than its image: masks/145.png;" in refusal(pairs / "lungs")


def test_no_images(pairs):
    for path in (pairs / "lungs" / "images").iterdir():
        path.rename(path.with_suffix(".txt"))
    assert refusal(pairs / "lungs").startswith(
        "benchmark.root: no images in …/lungs/images (found: 145.txt, 191.txt); put images/ and")


def test_an_unreadable_file_stops_or_is_left_out(pairs, truncated):
    image = truncated(pairs / "lungs" / "images" / "145.jpg")
    assert "images/145.jpg: not a readable image" in refusal(pairs / "lungs")
    assert check(pairs / "lungs", "skip") == ([1], [str(image)])
    truncated(pairs / "lungs" / "images" / "191.jpg")
    with pytest.raises(UserError, match="not one readable pair"):
        check(pairs / "lungs", "skip")


def test_the_fingerprint_follows_masks_and_threshold(pairs):
    before = read_pairs(pairs / "lungs", 200).fingerprint()
    assert read_pairs(pairs / "lungs", 100).fingerprint() != before
    Image.new("L", (384, 320), 255).save(pairs / "lungs" / "masks" / "145.png")
    assert read_pairs(pairs / "lungs", 200).fingerprint() != before
