"""ImageNet-1k (ILSVRC2012's 50,000 validation images) and the ImageNet-100 that the paper used."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kt_exp.data.imagenet import class_names, wnids
from kt_exp.errors import UserError
from kt_exp.progress import progress
from prepare.imagenet_labels import read_labels
from prepare.job import Job, visible

ARCHIVE = "ILSVRC2012_img_val.tar"
IMAGES = "ILSVRC2012_val_*.JPEG"
NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")
PER_CLASS = 50


def prepare_1k(job: Job) -> None:
    """Write `val/<wnid>/<image>` from the archive, from flat images, or from sorted ones."""
    archive = job.find(ARCHIVE)
    images = sorted(path for path in job.source.rglob(IMAGES) if visible(path, job.source))
    if not archive and not images:
        raise job.wrong(f"neither {ARCHIVE} nor images {IMAGES}",
                        "download the validation images of ILSVRC2012")
    known = set(wnids())
    if images and all(path.parent.name in known for path in images):
        images_of = Counter(_sorted_already(job, images).values())
    else:
        labels = read_labels(job)
        placed = _from_files(job, images, labels) if images else _from_archive(
            job, archive or Path(), labels)
        absent = [f"ILSVRC2012_val_{n:08d}" for n in labels if n not in placed]
        job.absent(absent, len(labels), job.source)
        images_of = Counter(placed.values())
    _report(job, images_of, 1000)


def prepare_100(job: Job) -> None:
    """Write `val/<wnid>/<image>` and `val/classnames.json` from Kaggle's ImageNet-100."""
    val = next((path for path in (job.source / "val.X", job.source / "val") if path.is_dir()), None)
    if val is None:
        raise job.wrong("no folder val.X (or val)", "give the folder of Kaggle's ImageNet-100 "
                        "(ambityga/imagenet100)")
    images = sorted(path for path in val.glob("*/*.JPEG") if visible(path, val))
    unknown = sorted({path.parent.name for path in images} - set(wnids()))
    if unknown or not images:
        found = f"'{unknown[0]}' is no wnid of ImageNet" if unknown else "no images"
        raise UserError(str(val), found, "expected one sub-folder per wnid, as n01440764/x.JPEG")
    placed = _sorted_already(job, images)
    names = dict(zip(wnids(), class_names(), strict=True))
    used = {wnid: names[wnid] for wnid in sorted(set(placed.values()))}
    (job.out / "val" / "classnames.json").write_text(json.dumps(used, indent=1), encoding="utf-8")
    _report(job, Counter(placed.values()), 100)


def _sorted_already(job: Job, images: list[Path]) -> dict[str, str]:
    with progress("Copying images", len(images)) as bar:
        for path in images:
            job.place(path, f"val/{path.parent.name}/{path.name}")
            bar.advance()
    return {path.name: path.parent.name for path in images}


def _from_files(job: Job, images: list[Path], labels: dict[int, str]) -> dict[int, str]:
    placed = {}
    with progress("Copying images", len(images)) as bar:
        for path in images:
            number, wnid = _label(path.name, labels)
            job.place(path, f"val/{wnid}/{path.name}")
            placed[number] = wnid
            bar.advance()
    return placed


def _from_archive(job: Job, archive: Path, labels: dict[int, str]) -> dict[int, str]:
    placed = {}
    with progress(f"Unpacking {archive.name}", len(labels)) as bar:
        for name, content in _members(archive):
            number, wnid = _label(name, labels)
            target = job.out / "val" / wnid / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(content, file)
            placed[number] = wnid
            bar.advance()
    return placed


def _members(archive: Path) -> Iterator[tuple[str, tarfile.ExFileObject]]:
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if NUMBER.match(name) and (content := tar.extractfile(member)):
                    assert isinstance(content, tarfile.ExFileObject)
                    yield name, content
    except tarfile.TarError as error:
        raise UserError(str(archive), f"not a whole tar archive ({error})",
                        "download it again") from error


def _label(name: str, labels: dict[int, str]) -> tuple[int, str]:
    match = NUMBER.match(name)
    number = int(match[1]) if match else 0
    if number not in labels:
        raise UserError(name, "the ground truth has no label of it",
                        f"it has images 1 to {len(labels)}")
    return number, labels[number]


def _report(job: Job, images: Counter[str], classes: int) -> None:
    job.count(len(images), classes, "classes")
    job.count(sum(images.values()), classes * PER_CLASS, "images")
    short = sorted(wnid for wnid, number in images.items() if number != PER_CLASS)
    if short:
        job.notes.append(f"{len(short)} classes have not {PER_CLASS} images, the first: "
                         f"{short[0]} with {images[short[0]]}")
