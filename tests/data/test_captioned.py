from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kt_exp.data.captioned import read_captioned
from kt_exp.errors import UserError

COCO = Path(__file__).parent / "coco"
KARPATHY, ANNOTATIONS, TABLE = (
    COCO / "dataset_coco.json", COCO / "captions_val2014.json", COCO / "captions.csv"
)
MOTORCYCLE = "A man drives a motorcycle down a road in the fog."


def read(path: Path, split: str = "test", root: Path = COCO):
    return read_captioned(path, root, split, "benchmark.captions")


def failure(path: Path, split: str = "test", root: Path = COCO) -> str:
    with pytest.raises(UserError) as caught:
        read(path, split, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("path", "split", "root"), [
    (KARPATHY, "all", COCO), (ANNOTATIONS, "all", COCO / "val2014"), (TABLE, "all", COCO),
])
def test_the_three_layouts_say_the_same(path, split, root):
    images = read(path, split, root)
    assert len(images) == 8
    assert images.labels == list(range(8))
    assert images.files[0] == COCO / "val2014" / "COCO_val2014_000000165518.jpg"
    assert images.captions[0][0] == MOTORCYCLE
    assert [len(captions) for captions in images.captions] == [5] * 8
    assert images.open(0).size == (160, 160)
    assert images.captions == read(KARPATHY, "all").captions


@pytest.mark.parametrize("path", [KARPATHY, TABLE])
def test_a_split_holds_its_own_images(path):
    assert len(read(path, "test")) == 6
    assert read(path, "val").names == ["val2014/COCO_val2014_000000347254.jpg"]
    assert read(path, "restval").names == ["val2014/COCO_val2014_000000427034.jpg"]


def test_karpathys_flickr30k_names_no_folder_and_coco_may_lie_without_it(tmp_path):
    images = json.loads(KARPATHY.read_text())["images"]
    for image in images:
        del image["filepath"]
    flickr = tmp_path / "dataset_flickr30k.json"
    flickr.write_text(json.dumps({"images": images, "dataset": "flickr30k"}))
    assert read(flickr, root=COCO / "val2014").files == read(KARPATHY).files
    assert read(KARPATHY, root=COCO / "val2014").files == read(KARPATHY).files


def test_fewer_captions_are_the_first_ones_and_sign_otherwise():
    images = read(KARPATHY)
    fewer = images.at_most(2)
    assert fewer.captions == [captions[:2] for captions in images.captions]
    assert images.at_most(0).captions == images.captions
    assert fewer.fingerprint() != images.fingerprint() == read(KARPATHY).fingerprint()


def test_captions_lose_the_space_around_them_and_empty_ones_are_none(tmp_path, paint):
    paint(tmp_path / "a.png")
    table = write_table(tmp_path, [("a.png", " Red.\n"), ("a.png", "  "), ("a.png", "All red.")])
    assert read(table, "all", tmp_path).captions == [["Red.", "All red."]]


def test_an_unknown_split_is_told_with_those_there_are():
    assert "no split 'dev'" in failure(KARPATHY, "dev")
    assert "known: all, restval, test, val" in failure(KARPATHY, "dev")
    assert "did you mean 'test'" in failure(TABLE, "tests")
    assert "set benchmark.split=all" in failure(ANNOTATIONS, "test", COCO / "val2014")


def test_images_that_are_not_there_are_counted_and_named(tmp_path, paint):
    paint(tmp_path / "a.png")
    rows = [(f"{name}.png", "Red.") for name in "abcdef"]
    said = failure(write_table(tmp_path, rows), "all", tmp_path)
    assert f"5 of 6 images are not in {tmp_path}: b.png, c.png, d.png … (5 in all)" in said
    assert "benchmark.image_root: no such folder" in failure(TABLE, root=tmp_path / "nowhere")


def test_images_without_a_caption_are_counted_and_named(tmp_path, paint):
    paint(tmp_path / "a.png")
    said = failure(write_table(tmp_path, [("a.png", "Red."), ("b.png", " ")]), "all", tmp_path)
    assert "1 of 2 images have no caption: b.png" in said


@pytest.mark.parametrize(("name", "text", "found"), [
    ("a.json", "[1, 2]", "unknown layout: no list 'images' (its keys are: none)"),
    ("a.json", '{"data": [], "info": 1}', "no list 'images' (its keys are: data, info)"),
    ("a.json", '{"images": [{"filename": "a.jpg", "split": "test"}]}', "lacks 'sentences'"),
    ("a.json", '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 2, '
               '"caption": "x"}]}', "an annotation of image 2, not in 'images'"),
    ("a.json", '{"images": [', "unreadable captions (Expecting value"),
    ("a.json", '{"images": []}', "lists no images"),
    ("a.csv", "image,text\na.jpg,x\n", "unknown layout: its columns are image, text"),
    ("a.csv", "file,split,caption\na.jpg,val,x\na.jpg,test,y\n", "in the splits 'val' and 'test'"),
])
def test_another_layout_is_told_with_what_was_expected(tmp_path, name, text, found):
    (tmp_path / name).write_text(text)
    said = failure(tmp_path / name)
    assert found in said
    assert str(tmp_path / name) in said


def test_a_captions_file_that_is_not_there_names_the_key(tmp_path):
    assert failure(tmp_path / "none.json").startswith("benchmark.captions: no such file")


def write_table(folder: Path, rows: list[tuple[str, str]]) -> Path:
    path = folder / "captions.csv"
    with path.open("w", newline="") as lines:
        csv.writer(lines).writerows([("file", "caption"), *rows])
    return path
