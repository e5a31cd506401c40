"""Lay out the 1000 photos of the NIPS 2017 adversarial development set for `benchmark=photos`.

The set is public ("NIPS 2017: Adversarial Learning Development Set", Kurakin et al. 2018): a folder
`images/` of 1000 PNGs, 299 pixels wide and high, and `images.csv` with the columns ImageId and
TrueLabel (1 to 1000), among others. Each photo is under CC BY; License, Author and
OriginalLandingURL name its terms and its author, and are kept.

    python scripts/prepare_data.py FOLDER
    kt-exp experiment=photos benchmark.labels_csv=FOLDER/labels.csv
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from kt_exp.benchmarks.imagenet import wnids

COLUMNS = ("file", "class_index", "wnid", "license", "author", "landing_url")


def label_rows(folder: Path) -> list[dict[str, str]]:
    """Return a row of labels.csv for each photo in `folder/images` that images.csv lists.

    Raises:
        SystemExit: no images.csv, a column it lacks, or none of its photos.
    """
    source = folder / "images.csv"
    if not source.is_file():
        raise SystemExit(f"{source}: no such file; give the folder of the public set")
    with source.open(newline="", encoding="utf-8-sig") as lines:
        listed = list(csv.DictReader(lines))
    missing = {"ImageId", "TrueLabel"} - set(listed[0] if listed else ())
    if missing:
        raise SystemExit(f"{source}: lacks the columns {', '.join(sorted(missing))}")
    rows = [_row(folder, listing) for listing in listed]
    found = [row for row in rows if row]
    if not found:
        raise SystemExit(f"{folder / 'images'}: none of the listed photos")
    return found


def _row(folder: Path, listing: dict[str, str]) -> dict[str, str]:
    """Return one photo's row, empty if the photo is not there."""
    names = [f"images/{listing['ImageId']}{suffix}" for suffix in (".png", ".jpg")]
    file = next((name for name in names if (folder / name).is_file()), None)
    if file is None:
        return {}
    index = int(listing["TrueLabel"]) - 1
    return {"file": file, "class_index": str(index), "wnid": wnids()[index],
            "license": listing.get("License", ""), "author": listing.get("Author", ""),
            "landing_url": listing.get("OriginalLandingURL", "")}


def main() -> None:
    """Write labels.csv beside images.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder that holds images/ and images.csv")
    folder = parser.parse_args().folder.expanduser()
    rows = label_rows(folder)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print(f"{folder / 'labels.csv'}: {len(rows)} photos")


if __name__ == "__main__":
    main()
