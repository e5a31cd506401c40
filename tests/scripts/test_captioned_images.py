"""Flickr30k and MSCOCO: Karpathy's JSON kept as it is, the images of a split beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kt_exp.data.captioned import read_captioned

from .conftest import picture, tree


def image(name: str, split: str, folder: str | None = None) -> dict[str, Any]:
    entry = {"filename": name, "split": split,
             "sentences": [{"raw": f"{name}, caption {n}."} for n in range(5)]}
    return entry | ({"filepath": folder} if folder else {})


def write(path: Path, *images: dict[str, Any]) -> None:
    path.write_text(json.dumps({"images": images, "dataset": "x"}))


def test_flickr30k(source, out, prepare):
    write(source / "dataset_flickr30k.json", image("1.jpg", "test"), image("2.jpg", "train"),
          image("3.jpg", "test"))
    for number in (1, 2, 3):
        picture(source / "flickr30k-images" / f"{number}.jpg")
    said = prepare("flickr30k")
    assert tree(out) == ["dataset_flickr30k.json", "images/1.jpg", "images/3.jpg"]
    assert "2 images; the paper has 1,000\n10 captions; the paper has 5,000" in said
    read = read_captioned(out / "dataset_flickr30k.json", out / "images", "test", "x")
    assert read.names == ["1.jpg", "3.jpg"]


def test_mscoco_keeps_its_folders(source, out, prepare):
    write(source / "dataset_coco.json", image("a.jpg", "test", "val2014"),
          image("b.jpg", "restval", "val2014"), image("c.jpg", "train", "train2014"))
    for name in ("val2014/a.jpg", "val2014/b.jpg", "train2014/c.jpg"):
        picture(source / "coco" / name)
    prepare("mscoco", "--split", "all")
    read = read_captioned(out / "dataset_coco.json", out / "images", "all", "x")
    assert read.names == ["val2014/a.jpg", "val2014/b.jpg", "train2014/c.jpg"]


def test_missing_images_are_named(source, refused, out, prepare):
    write(source / "dataset_flickr30k.json", image("1.jpg", "test"), image("2.jpg", "test"))
    picture(source / "2.jpg")
    assert "1 of 2 listed files are not there: 1.jpg" in refused("flickr30k")
    assert "left out: 1 of 2" in prepare("flickr30k", "--partial")


def test_an_unknown_split_is_refused(source, refused):
    write(source / "dataset_flickr30k.json", image("1.jpg", "test"))
    assert "no images of 'dev'" in refused("flickr30k", "--split", "dev")


def test_another_json_is_refused(source, refused):
    (source / "dataset_coco.json").write_text('{"annotations": []}')
    assert "unknown layout (KeyError: 'images')" in refused("mscoco")
