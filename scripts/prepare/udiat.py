"""UDIAT ("Dataset B"): breast ultrasound with masks of the lesion (Yap et al. 2018).

`original/` and `GT/` hold an image and its mask under one name.
"""

from __future__ import annotations

from pathlib import Path

from kt_exp.data.image_files import IMAGE_SUFFIXES
from kt_exp.errors import UserError
from kt_exp.progress import progress
from prepare.job import Job, visible
from prepare.pixels import SOLID, read_gray, save_pair

IMAGES = (163, 164)  # as published; 110 benign and 54 malignant in the paper
REMEDY = "give the folder that holds original/ and GT/"


def prepare(job: Job) -> None:
    """Write image–mask pairs."""
    images = _files(job.need("original", "Original", remedy=REMEDY))
    masks = _files(job.need("GT", "gt", remedy=REMEDY))
    if not images:
        raise job.wrong("no images in the folder original", REMEDY)
    if alone := sorted(masks.keys() - images.keys()):
        raise UserError(str(masks[alone[0]]), "a mask without an image", REMEDY)
    job.absent([f"GT/{stem}" for stem in images if stem not in masks], len(images), job.source)
    pairs = [(images[stem], masks[stem]) for stem in images if stem in masks]
    with progress("Converting ultrasounds", len(pairs)) as bar:
        for image, path in pairs:
            mask = read_gray(path) > SOLID
            if not mask.any():
                raise UserError(str(path), "an empty mask", "expected the lesion in white")
            save_pair(job, image.stem, read_gray(image), mask, path)
            bar.advance()
    job.count(len(pairs), IMAGES, "ultrasounds")


def _files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir())
            if path.suffix.lower() in IMAGE_SUFFIXES and visible(path, folder)}
