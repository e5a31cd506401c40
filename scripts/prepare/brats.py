"""BraTS 2023 glioma: brain MRI volumes with masks of the tumour's parts (NIfTI).

A case is a folder with `<case>-t1n`, `-t1c`, `-t2w`, `-t2f` and `-seg`, each `.nii.gz`. In the
mask, 1 is necrotic core, 2 oedema, 3 enhancing tumour: together the whole tumour.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from kt_exp.errors import UserError
from kt_exp.progress import progress
from prepare.job import Job, imported, visible
from prepare.pixels import save_pair, to_bytes

SLICES = 14_746
MODALITIES = ("t2f", "t1c", "t1n", "t2w")
BRIGHTEST = 99.5  # percentile of the brain's voxels that is shown as white


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this data set."""
    parser.add_argument("--modality", choices=MODALITIES, default="t2f",
                        help="t2f (FLAIR, in which the whole tumour is bright), t1c, t1n or t2w; "
                        "the paper does not name it (default: %(default)s)")
    parser.add_argument("--cases", type=Path, metavar="FILE",
                        help="a text file with the names of the cases to take, one a line; the "
                        "paper's count is of a part it does not name (default: all)")


def prepare(job: Job) -> None:
    """Write image–mask pairs of the axial slices with tumour."""
    imported("nibabel", "medical")
    masks = {path.name.removesuffix("-seg.nii.gz"): path
             for path in sorted(job.source.rglob("*-seg.nii.gz")) if visible(path, job.source)}
    if not masks:
        raise job.wrong("no <case>/<case>-seg.nii.gz",
                        "unpack the training data of BraTS 2023 glioma there")
    cases = _wanted(job, list(masks))
    absent, slices = [case for case in cases if case not in masks], 0
    with progress("Slicing volumes", len(cases)) as bar:
        for case in cases:
            if case in masks:
                slices += _convert(job, case, masks[case])
            bar.advance()
    job.absent(absent, len(cases), job.options.cases or job.source)
    job.notes.append(f"{len(cases) - len(absent):,} cases, {job.options.modality}")
    job.count(slices, SLICES, "slices with tumour")


def _wanted(job: Job, there: list[str]) -> list[str]:
    if job.options.cases is None:
        return there
    try:
        names = job.options.cases.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("--cases", f"cannot read {job.options.cases} ({error})",
                        "give a text file of case names") from error
    return list(dict.fromkeys(names))


def _convert(job: Job, case: str, mask_file: Path) -> int:
    """Write the slices with tumour of one case; return how many."""
    file = mask_file.with_name(f"{case}-{job.options.modality}.nii.gz")
    if not file.is_file():
        raise UserError(str(file), "no such file",
                        f"expected the modality {job.options.modality} beside the mask")
    volume, mask = read_nifti(file), read_nifti(mask_file) > 0
    if volume.shape != mask.shape:
        raise UserError(str(mask_file), f"a mask of {mask.shape} voxels for a volume of "
                        f"{volume.shape}", "both have to have the same shape")
    brain = volume[volume > 0]
    white = float(np.percentile(brain, BRIGHTEST)) if brain.size else 1.0
    with_tumour = np.flatnonzero(mask.any(axis=(0, 1))).tolist()
    for index in with_tumour:
        save_pair(job, f"{case}_{index:03d}", to_bytes(_axial(volume, index), 0, white),
                  _axial(mask, index), mask_file)
    return len(with_tumour)


def read_nifti(path: Path) -> np.ndarray:
    """Return a volume `(X, Y, Z)`, axes towards the patient's right, front and top.

    Raises:
        UserError: not a readable NIfTI volume.
    """
    nibabel: Any = imported("nibabel", "medical")
    try:
        volume = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)
    # Damage shows up as almost any exception, gzip's and struct's included.
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(str(path), f"unreadable NIfTI ({reason})",
                        "expected a volume as .nii.gz; download it again") from error
    if volume.ndim != 3:
        raise UserError(str(path), f"an array of shape {volume.shape}", "expected one volume")
    return volume


def _axial(volume: np.ndarray, index: int) -> np.ndarray:
    """Return a slice as radiologists look at it: front up, the patient's right on the left."""
    return volume[::-1, ::-1, index].T
