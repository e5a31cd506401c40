"""SIIM-ACR Pneumothorax: chest X-rays in DICOM, masks run-length encoded in a CSV (Kaggle 2019).

The encoding is the challenge's own: column by column, pairs of a distance from the end of the last
run and a length; several rows of one image are several masks of it, "-1" is none.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from kt_exp.errors import UserError
from kt_exp.progress import progress
from prepare.job import Job, Row, imported, read_rows, visible
from prepare.pixels import dicom_gray, read_dicom, save_pair

IMAGES = 500
TABLES = ("stage_2_train.csv", "train-rle.csv", "*rle*.csv")
COLUMNS = ("ImageId", "EncodedPixels")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this data set."""
    parser.add_argument("--images", type=int, default=IMAGES, metavar="N",
                        help="the first N images by ImageId with a mask that are there, 0 for all; "
                        "the paper does not say which 500 it took (default: %(default)s)")


def prepare(job: Job) -> None:
    """Write image–mask pairs of X-rays with a pneumothorax."""
    imported("pydicom", "medical")
    table = job.need(*TABLES, remedy="put the challenge's CSV of run-length encoded masks there")
    runs: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(table, COLUMNS):
        if row.cells["EncodedPixels"] != "-1":
            runs[row.cells["ImageId"]].append(row)
    files = {path.stem: path for path in job.source.rglob("*.dcm") if visible(path, job.source)}
    if not files:
        raise job.wrong("no .dcm files", "unpack the DICOM images of the challenge there")
    there = sorted(runs.keys() & files.keys())
    chosen = there[: job.options.images or None]
    if len(chosen) < (job.options.images or len(runs)):
        job.absent(sorted(runs.keys() - files.keys()), len(runs), table)
    with progress("Converting X-rays", len(chosen)) as bar:
        for name in chosen:
            _convert(job, name, files[name], runs[name])
            bar.advance()
    job.count(len(chosen), IMAGES, "X-rays with a pneumothorax")


def _convert(job: Job, name: str, file: Path, rows: list[Row]) -> None:
    image = dicom_gray(read_dicom(file))
    masks = [decode(row.cells["EncodedPixels"], image.shape, row.line) for row in rows]
    save_pair(job, name, image, np.any(masks, axis=0), file)


def decode(runs: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return the mask that relative runs encode, bool `(H, W)`.

    Args:
        runs: "distance length distance length …", in pixels, down the columns.
        shape: height and width.

    Raises:
        UserError: not such pairs, or more pixels than the image has.
    """
    try:
        numbers = np.array([int(word) for word in runs.split()])
        distances, lengths = numbers.reshape(-1, 2).T
    except ValueError as error:
        raise UserError(where, f"'{runs[:40]}' is not pairs of distance and length",
                        "expected as many distances as lengths, or -1") from error
    ends = np.cumsum(distances + lengths)
    height, width = shape
    if not len(ends) or numbers.min() < 0 or ends[-1] > height * width:
        raise UserError(where, f"runs that do not fit {width} × {height} pixels",
                        "expected distances from the end of the last run")
    flat = np.zeros(height * width, dtype=bool)
    for end, length in zip(ends, lengths, strict=True):
        flat[end - length : end] = True
    return flat.reshape(width, height).T
