"""Flickr30k and MSCOCO with Karpathy's splits (`dataset_flickr30k.json`, `dataset_coco.json`)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from kt_exp.errors import UserError
from kt_exp.progress import progress
from prepare.job import Job

ALL = "all"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of these data sets."""
    parser.add_argument("--split", default="test", help="images of which split are laid out, or "
                        "'all'; the JSON is kept whole (default: test, the paper's)")


def prepare_flickr30k(job: Job) -> None:
    """Write `dataset_flickr30k.json` as it is, and `images/`."""
    images, captions = _prepare(job, "dataset_flickr30k.json")
    job.count(images, 1000, "images")
    job.count(captions, 5000, "captions")


def prepare_mscoco(job: Job) -> None:
    """Write `dataset_coco.json` as it is, and `images/`."""
    images, captions = _prepare(job, "dataset_coco.json")
    job.count(images, 5000, "images")
    job.notes.append(f"{captions:,} captions")


def _prepare(job: Job, name: str) -> tuple[int, int]:
    """Return how many images of the split were laid out, and how many captions they have."""
    table = job.need(name, remedy=f"put Karpathy's {name} beside the images")
    listed = _read(table, job.options.split)
    root = _image_root(job, listed)
    captions, absent = 0, []
    with progress("Copying images", len(listed)) as bar:
        for image in listed:
            names = _names(image)
            found = next((some for some in names if (root / some).is_file()), None)
            if found is None:
                absent.append(names[0])
            else:
                job.place(root / found, f"images/{names[0]}")
                captions += len(image["sentences"])
            bar.advance()
    job.absent(absent, len(listed), table)
    job.place(table, name)
    return len(listed) - len(absent), captions


def _read(table: Path, split: str) -> list[dict[str, Any]]:
    remedy = "expected Karpathy's JSON: images with filename, split and sentences"
    try:
        images = json.loads(table.read_text(encoding="utf-8"))["images"]
        splits = sorted({image["split"] for image in images if image["filename"]})
        listed = [image for image in images
                  if split in (ALL, image["split"]) and image["sentences"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(str(table), f"unknown layout ({type(error).__name__}: {error})",
                        remedy) from error
    if not listed:
        raise UserError("--split", f"no images of '{split}' in {table}",
                        f"there are: {', '.join([*splits, ALL])}")
    return listed


def _image_root(job: Job, listed: list[dict[str, Any]]) -> Path:
    """Return the folder that the file names start from: that of the first image that is there."""
    for image in listed[:20]:
        for name in _names(image):
            if path := job.find(name):
                return path.parents[len(Path(name).parts) - 1]
    raise job.wrong(f"no image such as {_names(listed[0])[0]}", "unpack the images there")


def _names(image: dict[str, Any]) -> list[str]:
    folder, name = image.get("filepath"), str(image["filename"])
    return [f"{folder}/{name}", name] if folder else [name]
