"""Captioned images on disk: Karpathy's JSON, COCO's captions JSON, or a CSV.

- Karpathy & Fei-Fei 2015 (`dataset_flickr30k.json`, `dataset_coco.json`): an object whose `images`
  have `filename`, `split`, `sentences[].raw` and, in COCO, `filepath`.
- COCO (`captions_val2017.json`): an object with `images` (`id`, `file_name`) and `annotations`
  (`image_id`, `caption`). It is one split.
- CSV: the columns `file`, `caption` and, where there are several, `split`; a row per caption.
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

from kt_exp.data.image_files import ImageFiles, listing
from kt_exp.errors import UserError, did_you_mean

ALL = "all"
LAYOUTS = ("give Karpathy's JSON (images with filename, split and sentences), COCO's (images and "
           "annotations) or a CSV with the columns file and caption")


@dataclass(frozen=True)
class CaptionedImages(ImageFiles):
    """Image files, each with its captions: an `ImageSet` whose label i is image i's own index.

    Attributes:
        captions: one or more of each image, in the order of the captions file.
    """

    captions: list[list[str]]

    @property
    def names(self) -> list[str]:
        """Path of each image, relative to the root, with forward slashes."""
        return [Path(os.path.relpath(path, self.root)).as_posix() for path in self.files]

    def fingerprint(self) -> str:
        """Return a hash of the files, as `ImageFiles` has it, and of all captions."""
        captions = json.dumps(self.captions)
        return hashlib.sha256(f"{super().fingerprint()}{captions}".encode()).hexdigest()

    def at_most(self, captions: int) -> CaptionedImages:
        """Return the same images with the first `captions` of each; all of them if it is 0."""
        return replace(self, captions=[some[: captions or None] for some in self.captions])


@dataclass
class _Listed:
    """An image as the captions file lists it; `file` is one or more candidates, best first."""

    files: list[str]
    split: str
    captions: list[str] = field(default_factory=list)


def read_captioned(path: Path, image_root: Path, split: str, where: str) -> CaptionedImages:
    """Return the images of one split with their captions, in the order of the file.

    Captions are stripped of the white space around them; empty ones are passed over. A file of
    Karpathy's is looked for as `filepath/filename` first, then as `filename`.

    Args:
        path: the captions file, in one of the layouts above.
        image_root: the folder that its file names start from.
        split: one of the file's own; `all` for every image, and for a file that has no splits.
            Karpathy's COCO has `restval` beside `train`, `val` and `test`.
        where: the config key that gave `path`, for the errors.

    Raises:
        UserError: no such file, a layout that is none of these, a split that is not there, images
            that are not there, images without a caption.
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
    except (ValueError, csv.Error) as error:
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
        reader = csv.DictReader(lines)
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
    """Return the file of each image: the first of its candidates that is there."""
    if not root.is_dir():
        raise UserError("benchmark.image_root", f"no such folder: {root}",
                        f"give the folder of the images that {path.name} lists")
    found = [next((root / file for file in image.files if (root / file).is_file()), None)
             for image in images]
    if absent := [image.files[0] for image, file in zip(images, found, strict=True) if not file]:
        raise UserError(str(path), f"{len(absent)} of {len(images)} images are not in {root}: "
                        f"{listing(absent, 3)}", "give the folder that holds them as "
                        "benchmark.image_root")
    return [file for file in found if file]
