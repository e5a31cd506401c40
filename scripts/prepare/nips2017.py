"""The 1000 photos of the NIPS 2017 adversarial development set, for `benchmark=photos`.

The set is public ("NIPS 2017: Adversarial Learning Development Set", Kurakin et al. 2018): a folder
`images/` of 1000 PNGs, 299 pixels wide and high, and `images.csv` with the columns ImageId and
TrueLabel (1 to 1000), among others. Each photo is under CC BY; License, Author and
OriginalLandingURL name its terms and its author, and are kept.
"""

from __future__ import annotations

from kt_exp.data.imagenet import wnids
from kt_exp.errors import UserError
from kt_exp.progress import progress
from prepare.job import Job, Row, read_rows, write_rows

COLUMNS = ("file", "class_index", "wnid", "license", "author", "landing_url")


def prepare(job: Job) -> None:
    """Write `images/` and `labels.csv`."""
    table = job.need("images.csv", remedy="give the folder of the public set, with images.csv and "
                     "images/")
    listed = read_rows(table, ["ImageId", "TrueLabel"])
    absent, rows = [], []
    with progress("Copying photos", len(listed)) as bar:
        for row in listed:
            image = row.cells["ImageId"]
            names = [f"images/{image}{suffix}" for suffix in (".png", ".jpg")]
            name = next((name for name in names if (table.parent / name).is_file()), None)
            if name is None:
                absent.append(image)
            else:
                job.place(table.parent / name, name)
                rows.append(_labelled(row, name))
            bar.advance()
    job.absent(absent, len(listed), table)
    write_rows(job.out / "labels.csv", COLUMNS, rows)
    job.notes.append(f"{len(rows):,} photos; the set has 1,000")


def _labelled(row: Row, name: str) -> dict[str, str]:
    number = row.cells["TrueLabel"]
    if not (number.isdecimal() and 1 <= int(number) <= 1000):
        raise UserError(row.line, f"TrueLabel '{number}' is not a class", "expected 1 to 1000")
    index = int(number) - 1
    return {"file": name, "class_index": str(index), "wnid": wnids()[index],
            "license": row.cells.get("License", ""), "author": row.cells.get("Author", ""),
            "landing_url": row.cells.get("OriginalLandingURL", "")}
