"""JSRT: 154 chest radiographs with a lung nodule, benign or malignant (Shiraishi et al. 2000).

An image is 2048 × 2048 values of 12 bits in two bytes, most significant first, without a header
(`JPCLN001.IMG`); the values are of optical density, dark where they are high. Copies as PNG are
taken as they are. `CLNDAT_EN.txt` has a line per image, in which tabs, spaces and line ends are not
consistent; "malignant" or "benign" stands in each.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from kt_exp.errors import UserError
from kt_exp.progress import progress
from prepare.job import Job, write_rows
from prepare.pixels import save, to_bytes

SIDE, BITS = 2048, 12
CLASSES = {"benign": "benign_nodule", "malignant": "lung_cancer"}
RECORD = re.compile(r"(JPCLN\d{3})\.IMG(.*?)(?=JPCLN\d{3}|\Z)", re.DOTALL | re.IGNORECASE)
STATUS = re.compile(r"\b(benign|malignant)\b(.*)", re.DOTALL | re.IGNORECASE)
COLUMNS = ("file", "class", "details")


def prepare(job: Job) -> None:
    """Write `benign_nodule/` and `lung_cancer/`, and what the table says more as `details.csv`."""
    table = job.need("CLNDAT_EN.txt", "CLNDAT_EN.TXT",
                     remedy="put the clinical information of JSRT beside the images")
    records = _records(table)
    absent, rows = [], []
    with progress("Converting radiographs", len(records)) as bar:
        for name, status, details in records:
            target = f"{CLASSES[status]}/{name}.png"
            file = job.find(f"{name}.IMG", f"{name}.img", f"{name}.png", f"{name}.PNG")
            if file is None:
                absent.append(f"{name}.IMG")
            else:
                rows.append({"file": target, "class": status, "details": details})
                _convert(job, file, target)
            bar.advance()
    job.absent(absent, len(records), table)
    write_rows(job.out / "details.csv", COLUMNS, rows)
    job.count(len(rows), 154, "radiographs with a nodule")
    found = Counter(row["class"] for row in rows)
    job.notes.append(", ".join(f"{found[status]} {status}" for status in CLASSES))


def read_raw(path: Path) -> np.ndarray:
    """Return a `.IMG` file as uint8 `(2048, 2048)`, bones light.

    Raises:
        UserError: not the size of such a file.
    """
    expected = SIDE * SIDE * 2
    if (found := path.stat().st_size) != expected:
        raise UserError(str(path), f"{found:,} bytes", f"expected {expected:,}: {SIDE} × {SIDE} "
                        "values of two bytes, without a header")
    density = np.fromfile(path, dtype=">u2").reshape(SIDE, SIDE)
    return 255 - to_bytes(density, 0, 2**BITS - 1)


def _convert(job: Job, file: Path, target: str) -> None:
    if file.suffix.lower() == ".png":
        job.place(file, target)
    else:
        save(job, target, read_raw(file))


def _records(table: Path) -> list[tuple[str, str, str]]:
    """Return name, status and the words after it (place and diagnosis) of each image."""
    text = table.read_text(encoding="utf-8", errors="replace")
    records = []
    for name, rest in RECORD.findall(text):
        match = STATUS.search(rest)
        if match is None:
            raise UserError(str(table), f"neither benign nor malignant at {name}",
                            "expected one of the words in each record")
        records.append((name.upper(), match[1].lower(), " ".join(match[2].split())))
    if not records:
        raise UserError(str(table), "no record such as 'JPCLN001.IMG … malignant …'",
                        "give JSRT's CLNDAT_EN.txt")
    return records
