"""CheXpert-5x200c: 200 chest X-rays of each of five findings, chosen by GLoRIA's authors.

The list is `chexpert_5x200.csv` (column Path) or MedCLIP's `chexpert-5x200-*meta.csv` (column
imgpath); the images are CheXpert's own.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from kt_exp.errors import UserError
from kt_exp.progress import progress
from prepare.job import Job, Row, read_rows

FINDINGS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
PER_FINDING = 200
LISTS = ("chexpert_5x200*.csv", "chexpert-5x200*.csv")
BELOW = re.compile(r"(?:(?:train|valid|test)/)?patient\d+/.+")


def prepare(job: Job) -> None:
    """Write `<finding>/<patient>_<study>_<view>.jpg`: class folders."""
    table = job.need(*LISTS, remedy="put the published list chexpert_5x200.csv beside the images")
    rows = read_rows(table, FINDINGS)
    roots = _image_roots(job)
    absent, counts = [], Counter[str]()
    with progress("Copying X-rays", len(rows)) as bar:
        for row in rows:
            finding, path = _finding(row), _image_path(row)
            if file := _locate(path, roots):
                job.place(file, f"{_slug(finding)}/{'_'.join(Path(path).parts[-3:])}")
                counts[finding] += 1
            else:
                absent.append(path)
            bar.advance()
    job.absent(absent, len(rows), table)
    for finding in FINDINGS:
        job.count(counts[finding], PER_FINDING, f"X-rays of {finding.lower()}")


def _finding(row: Row) -> str:
    marked = [name for name in FINDINGS if row.cells[name] and float(row.cells[name]) == 1]
    if len(marked) != 1:
        raise UserError(row.line, f"{len(marked)} of the five findings are 1",
                        "expected one: this is not the list of CheXpert-5x200c")
    return marked[0]


def _image_path(row: Row) -> str:
    path = row.cells.get("Path") or row.cells.get("imgpath") or ""
    match = BELOW.search(path)
    if match is None:
        raise UserError(row.line, f"no image path in '{path}'", "expected a column Path or imgpath "
                        "as CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg")
    return match[0]


def _image_roots(job: Job) -> list[Path]:
    """Return the folders that hold `train/` or `patient…/`: CheXpert comes whole or in batches."""
    folders = [job.source, *job.source.glob("*/"), *job.source.glob("*/*/")]
    roots = [folder for folder in folders
             if (folder / "train").is_dir() or next(folder.glob("patient*/"), None)]
    if not roots:
        raise job.wrong("no images of CheXpert", "expected train/patient00001/study1/… in it, or "
                        "one or two folders below")
    return roots


def _locate(path: str, roots: list[Path]) -> Path | None:
    below = path[path.index("patient"):]
    candidates = (root / name for root in roots for name in (path, below))
    return next((file for file in candidates if file.is_file()), None)


def _slug(finding: str) -> str:
    return finding.lower().replace(" ", "_")
