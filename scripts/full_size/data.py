"""A handful of made images of each data set of the paper, in its real layout.

What scripts/prepare_data.py takes as class folders, captioned images or PNG files is made in the
layout of the official download and goes through that script. UniToChest, SIIM and BraTS, which are
DICOM and NIfTI, are made as image–mask pairs, as it writes them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import prepare_data
from PIL import Image
from prepare.chexpert import FINDINGS
from prepare.rare_concepts import CONCEPTS

from kt_exp.data.imagenet import wnids

EACH = 2  # images of a class
CAPTIONED = 4
PAIRS = 4  # three to tune M2IB on and one to evaluate
PHOTO, X_RAY, SLICE = (500, 375), (390, 320), (240, 240)  # width and height, px
CAPTIONS = ("A man on a small moped on a dirt road.",
            "Someone rides along a road with a red helmet on.",
            "The road leads through a wide green valley.", "A motor bike, and hills behind it.",
            "A rider looks back at the camera on a sunny day.")


def write(name: str, folder: Path) -> None:
    """Write the data set `name`, one of `prepare_data.RECIPES`, to the new folder `folder`."""
    if name not in DOWNLOADS:
        for number in range(PAIRS):
            _pair(folder / "images" / f"{number}.png", folder / "masks" / f"{number}.png", number)
        return
    download = folder.with_name(f"{folder.name}.download")
    DOWNLOADS[name](download)
    with redirect_stdout(io.StringIO()) as said:
        code = prepare_data.main([name, "--source", str(download), "--out", str(folder)])
    if code:
        raise RuntimeError(f"prepare_data.py {name} ended with {code}: {said.getvalue()}")


def _rare(folder: Path) -> None:
    for concept in CONCEPTS:
        for number in range(EACH):
            _picture(folder / concept / f"{number}.jpg", PHOTO, number)


def _imagenet(folder: Path, split: str, classes: int) -> None:
    for number in range(classes * EACH):
        name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        _picture(folder / split / wnids()[number // EACH] / name, PHOTO, number)


def _chexpert(folder: Path) -> None:
    rows = []
    for number in range(len(FINDINGS) * EACH):
        path = f"train/patient{number:05d}/study1/view1_frontal.jpg"
        _picture(folder / path, X_RAY, number, "L")
        rows.append({"Path": f"CheXpert-v1.0/{path}", **dict.fromkeys(FINDINGS, "0.0"),
                     FINDINGS[number // EACH]: "1.0"})
    with (folder / "chexpert_5x200.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["Path", *FINDINGS])
        table.writeheader()
        table.writerows(rows)


def _jsrt(folder: Path) -> None:
    lines = []
    for number in range(2 * EACH):
        name = f"JPCLN{number + 1:03d}"
        _picture(folder / f"{name}.png", (2048, 2048), number, "L")
        lines.append(f"{name}.IMG\t4\t15\t53\tmale\t1634\t692\t"
                     f"{('benign', 'malignant')[number % 2]}\tleft upper lobe\tmade")
    (folder / "CLNDAT_EN.txt").write_text("\n".join(lines))


def _captioned(folder: Path, table: str, below: str) -> None:
    images = []
    for number in range(CAPTIONED):
        name = f"{number:012d}.jpg"
        _picture(folder / below / name, (640, 480), number)
        images.append({"filename": name, "split": "test", "imgid": number,
                       "sentences": [{"raw": caption} for caption in CAPTIONS],
                       **({"filepath": below} if below == "val2014" else {})})
    (folder / table).write_text(json.dumps({"images": images}))


def _udiat(folder: Path) -> None:
    for number in range(PAIRS):
        name = f"{number:06d}.png"
        _pair(folder / "original" / name, folder / "GT" / name, number)


DOWNLOADS: dict[str, Callable[[Path], None]] = {
    "rare": _rare,
    "imagenet1k": lambda folder: _imagenet(folder, "val", classes=2),
    "imagenet100": lambda folder: _imagenet(folder, "val.X", classes=3),
    "chexpert": _chexpert,
    "jsrt": _jsrt,
    "flickr30k": lambda folder: _captioned(folder, "dataset_flickr30k.json", "images"),
    "mscoco": lambda folder: _captioned(folder, "dataset_coco.json", "val2014"),
    "udiat": _udiat,
}


def _picture(path: Path, size: tuple[int, int], seed: int, mode: str = "RGB") -> None:
    """Write a picture of smooth random blots."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blots = np.random.RandomState(seed).randint(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path)


def _pair(image: Path, mask: Path, seed: int) -> None:
    """Write a slice with a light disc, and the mask of the disc."""
    across, down = np.meshgrid(np.arange(SLICE[0]), np.arange(SLICE[1]))
    disc = (across - 90 - 10 * seed) ** 2 + (down - 120) ** 2 < 30**2
    noise = np.random.RandomState(seed).randint(0, 80, disc.shape)
    for path, pixels in ((image, noise + 150 * disc), (mask, 255 * disc)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
