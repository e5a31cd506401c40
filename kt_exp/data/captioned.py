"""Captioned images on disk: Karpathy's JSON, COCO's captions JSON, or a CSV.

- Karpathy & Fei-Fei 2015 (`dataset_flickr30k.json`, `dataset_coco.json`): an object whose `images`
  have `filename`, `split`, `sentences[].raw` and, in COCO, `filepath`.
- COCO (`captions_val2017.json`): an object with `images` (`id`, `file_name`) and `annotations`
  (`image_id`, `caption`). It is one split.
- CSV: the columns `file`, `caption` and optionally `split`; one row per caption.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kt_exp.csv_files import dict_reader
from kt_exp.data.image_files import ImageFiles, listing
from kt_exp.errors import UserError, did_you_mean
from kt_exp.unicode import on_disk

ALL = "all"
LAYOUTS = ("give Karpathy's JSON (images with filename, split and sentences), COCO's (images and "
           "annotations) or a CSV with the columns file and caption")


@dataclass(frozen=True)
class CaptionedImages(ImageFiles):
    """Image files with captions: an `ImageSet` in which the label of image i is i.

    Attributes:
        captions: of each image, at least one, in the order of the captions file.
    """

    captions: list[list[str]]

    @property
    def names(self) -> list[str]:
        """Path of each image, relative to the root, with forward slashes."""
        return [Path(os.path.relpath(path, self.root)).as_posix() for path in self.files]

    def fingerprint(self) -> str:
        """Return a hash of the files, as in `ImageFiles`, and of all captions."""
        captions = json.dumps(self.captions)
        return hashlib.sha256(f"{super().fingerprint()}{captions}".encode()).hexdigest()

    def at_most(self, captions: int) -> CaptionedImages:
        """Return the same images with the first `captions` of each; all if `captions` is 0."""
        return replace(self, captions=[own[: captions or None] for own in self.captions])


@dataclass
class _Listed:
    """An image as the captions file lists it; `files` are candidate paths, best first."""

    files: list[str]
    split: str
    captions: list[str] = field(default_factory=list)


def read_captioned(path: Path, image_root: Path, split: str, where: str) -> CaptionedImages:
    """Return the images of one split with their captions, in the order of the file.

    Captions are stripped of surrounding white space; empty ones are ignored. A file of Karpathy's
    layout is looked up as `filepath/filename` first, then as `filename`.

    Args:
        path: the captions file, in one of the layouts above.
        image_root: the folder that its file names are relative to.
        split: a split of the file; `all` for all images, and for a file without splits.
            Karpathy's COCO has `restval` besides `train`, `val` and `test`.
        where: the config key of `path`, for error messages.

    Raises:
        UserError: the file does not exist or has another layout, there is no such split, an image
            is missing, or an image has no caption.
    """
    listed = _read(path, where)
    chosen = [image for image in listed if split in (ALL, image.split)]
    if not chosen:
        raise _unknown_split(path, split, listed)
    if bare := [image.files[0] for image in chosen if not image.captions]:
        raise UserError(str(path), f"{len(bare)} of {len(chosen)} images have no caption: "
                        f"{listing(bare, 3)}", "caption them, or take them out")
    found = _find(chosen, path, image_root)
    return CaptionedImages(image_root, found, list(range(len(found))),
                           [image.captions for image in chosen])


def _read(path: Path, where: str) -> list[_Listed]:
    if not path.is_file():
        raise UserError(where, f"no such file: {path}", LAYOUTS)
    try:
        listed = _READERS.get(path.suffix.lower(), _read_json)(path)
    except (ValueError, RecursionError, csv.Error) as error:
        raise UserError(str(path), f"unreadable captions ({error})", LAYOUTS) from error
    if not listed:
        raise UserError(str(path), "lists no images", LAYOUTS)
    for image in listed:
        stripped = [caption.strip() for caption in image.captions]
        image.captions = [caption for caption in stripped if caption]
    return listed


def _read_json(path: Path) -> list[_Listed]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not (isinstance(content, dict) and isinstance(content.get("images"), list)):
        keys = listing(sorted(content), 6) if isinstance(content, dict) else "none"
        raise UserError(str(path), f"unknown layout: no list 'images' (its keys are: {keys})",
                        LAYOUTS)
    read = _coco if "annotations" in content else _karpathy
    try:
        return read(content)
    except (KeyError, TypeError, AttributeError) as error:
        layout = "COCO's" if read is _coco else "Karpathy's"
        missing = f"an entry lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(str(path), f"unknown layout: as {layout}, {missing}", LAYOUTS) from error


def _karpathy(content: dict[str, Any]) -> list[_Listed]:
    return [
        _Listed(_karpathy_files(image), image["split"],
                [sentence["raw"] for sentence in image["sentences"]])
        for image in content["images"]
    ]


def _karpathy_files(image: dict[str, Any]) -> list[str]:
    folder, name = image.get("filepath"), image["filename"]
    return [f"{folder}/{name}", name] if folder else [name]


def _coco(content: dict[str, Any]) -> list[_Listed]:
    listed = {image["id"]: _Listed([image["file_name"]], ALL) for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in listed:
            raise ValueError(f"an annotation of image {annotation['image_id']}, not in 'images'")
        listed[annotation["image_id"]].captions.append(annotation["caption"])
    return list(listed.values())


def _read_csv(path: Path) -> list[_Listed]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = dict_reader(lines)
        columns = list(reader.fieldnames or ["none"])
        if not {"file", "caption"} <= set(columns):
            raise UserError(str(path), f"unknown layout: its columns are {listing(columns)}",
                            LAYOUTS)
        listed: dict[str, _Listed] = {}
        for row in reader:
            file, split = row["file"] or "", row.get("split") or ALL
            image = listed.setdefault(file, _Listed([file], split))
            if image.split != split:
                raise UserError(f"{path} line {reader.line_num}", f"{file} is in the splits "
                                f"'{image.split}' and '{split}'", "put an image into one split")
            image.captions.append(row["caption"] or "")
    return list(listed.values())


_READERS = {".csv": _read_csv}


def _unknown_split(path: Path, split: str, listed: Iterable[_Listed]) -> UserError:
    splits = {image.split for image in listed}
    if splits == {ALL}:
        return UserError(str(path), f"no split '{split}': the file is not divided into splits",
                         f"set benchmark.split={ALL}")
    return UserError(str(path), f"no split '{split}'", did_you_mean(split, {*splits, ALL}))


def _find(images: list[_Listed], path: Path, root: Path) -> list[Path]:
    """Return the file of each image: the first candidate that exists."""
    if not root.is_dir():
        raise UserError("benchmark.image_root", f"no such folder: {root}",
                        f"give the folder of the images that {path.name} lists")
    found = [next((path for path in (on_disk(root / file) for file in image.files)
                   if path.is_file()), None) for image in images]
    if absent := [image.files[0] for image, file in zip(images, found, strict=True) if not file]:
        raise UserError(str(path), f"{len(absent)} of {len(images)} images are not in {root}: "
                        f"{listing(absent, 3)}", "give the folder that holds them as "
                        "benchmark.image_root")
    return [file for file in found if file]
