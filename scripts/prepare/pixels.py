"""Grey images and masks: from DICOM and arrays to 8-bit PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kt_exp.errors import UserError
from prepare.job import Job, imported

SOLID = 127  # the threshold of masks that are stored as 0 and 255


def to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values as uint8, `low` and below as 0, `high` and above as 255."""
    scaled = (values.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)


def read_dicom(path: Path) -> Any:
    """Return a DICOM data set whose pixels can be decoded, as `pixel_array`.

    Raises:
        UserError: pydicom is not installed, or the file is not a readable DICOM image.
    """
    pydicom = imported("pydicom", "medical")
    try:
        data = pydicom.dcmread(path)
        shape = data.pixel_array.shape
    # Damage shows up as almost any exception, also of the decoder of the pixel data.
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(str(path), f"unreadable DICOM ({reason})",
                        "expected an image in DICOM format; replace or remove it") from error
    if len(shape) != 2:
        raise UserError(str(path), f"pixels of shape {shape}", "expected one grey image")
    return data


def dicom_gray(data: Any) -> np.ndarray:
    """Return an X-ray as uint8 `(H, W)`, bones light: over the full range of more than 8 bits."""
    pixels = data.pixel_array
    gray = pixels if pixels.dtype == np.uint8 else to_bytes(pixels, pixels.min(), pixels.max())
    return 255 - gray if data.PhotometricInterpretation == "MONOCHROME1" else gray


def hounsfield(data: Any) -> np.ndarray:
    """Return a CT slice in Hounsfield units, fp32 `(H, W)`."""
    slope = float(data.get("RescaleSlope", 1))
    intercept = float(data.get("RescaleIntercept", 0))
    return data.pixel_array.astype(np.float32) * slope + intercept


def read_gray(path: Path) -> np.ndarray:
    """Return an image file as uint8 `(H, W)`.

    Raises:
        UserError: not a readable image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except Exception as error:
        raise UserError(str(path), f"not a readable image ({type(error).__name__})",
                        "replace or remove it") from error


def save_pair(job: Job, stem: str, image: np.ndarray, mask: np.ndarray, where: Path) -> None:
    """Write `images/stem.png` and `masks/stem.png`, the mask as 0 and 255.

    Args:
        image: uint8 `(H, W)`.
        mask: bool `(H, W)`.
        where: the file that the mask comes from, for the error.

    Raises:
        UserError: image and mask are of two sizes.
    """
    if image.shape != mask.shape:
        raise UserError(str(where), f"a mask of {size(mask)} pixels for an image of {size(image)}",
                        "both have to have the same width and height")
    save(job, f"images/{stem}.png", image)
    save(job, f"masks/{stem}.png", mask.astype(np.uint8) * 255)


def save(job: Job, name: str, image: np.ndarray) -> None:
    """Write a grey image, uint8 `(H, W)`, as PNG to `out/name`."""
    target = job.out / name
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(target)


def size(image: np.ndarray) -> str:
    """Return width × height."""
    return f"{image.shape[1]} × {image.shape[0]}"
