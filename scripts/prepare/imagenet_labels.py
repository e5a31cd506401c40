"""The labels of ILSVRC2012's validation images, in each of the forms they are published in."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

from kt_exp.data.imagenet import wnids
from kt_exp.errors import UserError
from prepare.job import Job, imported, read_rows

SOLUTION = "LOC_val_solution.csv"  # Kaggle
SYNSETS = "imagenet_2012_validation_synset_labels.txt"  # one wnid per image, in order (TensorFlow)
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"  # image-net.org
TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"  # in the devkit


def read_labels(job: Job) -> dict[int, str]:
    """Return the wnid of each validation image by its number, from 1.

    Raises:
        UserError: no labels in any known form, or damaged ones.
    """
    for name, read in _READERS.items():
        if path := job.find(name):
            labels = read(path)
            if unknown := sorted(set(labels.values()) - set(wnids())):
                raise UserError(str(path), f"'{unknown[0]}' is no wnid of ImageNet-1k",
                                "expected wnids such as n01440764")
            return labels
    raise job.wrong("no labels of the images", f"add {SOLUTION}, {SYNSETS} or {DEVKIT}")


def _solution(path: Path) -> dict[int, str]:
    rows = read_rows(path, ["ImageId", "PredictionString"])
    return {int(row.cells["ImageId"].rpartition("_")[2]): row.cells["PredictionString"].split()[0]
            for row in rows}


def _synset_list(path: Path) -> dict[int, str]:
    return dict(enumerate(path.read_text(encoding="utf-8").split(), start=1))


def _packed_devkit(path: Path) -> dict[int, str]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                name = Path(member.name).name
                if name in (TRUTH, META) and (content := tar.extractfile(member)):
                    found[name] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(str(path), f"not a whole tar archive ({error})",
                        "download it again") from error
    if missing := {TRUTH, META} - found.keys():
        raise UserError(str(path), f"lacks {', '.join(sorted(missing))}", f"give {DEVKIT}")
    return _join(found[TRUTH].decode(), found[META], path)


def _unpacked_devkit(path: Path) -> dict[int, str]:
    meta = path.parent / META
    if not meta.is_file():
        raise UserError(str(path), f"no {META} beside it: the numbers in it are of ILSVRC's own "
                        "order", f"give the whole devkit, or {SOLUTION}")
    return _join(path.read_text(encoding="utf-8"), meta.read_bytes(), meta)


def _join(truth: str, meta: bytes, path: Path) -> dict[int, str]:
    loadmat = imported("scipy.io", "imagenet").loadmat
    try:
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        wnid_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        return {number: wnid_of[int(label)]
                for number, label in enumerate(truth.split(), start=1)}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(str(path), f"unreadable devkit ({error})", "download it again") from error


_READERS: dict[str, Callable[[Path], dict[int, str]]] = {
    SOLUTION: _solution, SYNSETS: _synset_list, TRUTH: _unpacked_devkit, DEVKIT: _packed_devkit,
}
