"""UniToChest: chest CT with masks of lung nodules (Chaudhry et al. 2022).

Each of `train/`, `val/` and `test/` has `images/` (DICOM slices), `masks/` (PNG, of slices with a
nodule) and `<split>_dataset.csv`, whose columns image and mask are paths in those two folders.
"""

from __future__ import annotations

import argparse
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kt_exp.progress import progress
from prepare.job import Job, imported, read_rows
from prepare.pixels import hounsfield, read_dicom, read_gray, save_pair, to_bytes

SLICES = 4179
SPLITS = ("test", "val", "train")


class Slice(NamedTuple):
    """A slice with a mask."""

    name: str
    image: Path
    mask: Path


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this data set."""
    parser.add_argument("--split", choices=[*SPLITS, "all"], default="test",
                        help="slices of which split; the paper does not name it (default: test)")
    parser.add_argument("--window", type=float, nargs=2, metavar=("LOW", "HIGH"),
                        default=(-1350.0, 150.0),
                        help="Hounsfield units shown as black and white (default: the usual lung "
                        "window, -1350 150; the paper does not state it)")


def prepare(job: Job) -> None:
    """Write image–mask pairs of the slices with a nodule."""
    imported("pydicom", "medical")
    splits = SPLITS if job.options.split == "all" else (job.options.split,)
    slices = [item for split in splits for item in _slices(job, split)]
    low, high = job.options.window
    written, absent = 0, []
    with progress("Converting slices", len(slices)) as bar:
        for item in slices:
            if missing := [path for path in (item.image, item.mask) if not path.is_file()]:
                absent.append(str(missing[0].relative_to(job.source)))
            elif (mask := read_gray(item.mask) > 0).any():
                image = to_bytes(hounsfield(read_dicom(item.image)), low, high)
                save_pair(job, item.name, image, mask, item.mask)
                written += 1
            bar.advance()
    job.absent(absent, len(slices), job.source)
    job.count(written, SLICES, f"slices with a nodule ({job.options.split})")


def _slices(job: Job, split: str) -> list[Slice]:
    table = job.need(f"{split}_dataset.csv",
                     remedy=f"unpack the split: {split}/images, {split}/masks and its CSV")
    rows = [row.cells for row in read_rows(table, ["image", "mask"])]
    images, masks = table.parent / "images", table.parent / "masks"
    return [Slice(f"{split}_{_stem(cells['image'])}", images / cells["image"],
                  masks / cells["mask"])
            for cells in rows if cells["mask"]]


def _stem(path: str) -> str:
    return "_".join(PurePosixPath(path).with_suffix("").parts)
