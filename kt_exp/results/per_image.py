"""per_image.csv: the scores of single images, for your own analysis."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from kt_exp.atomic import write_atomically
from kt_exp.csv_files import safe_cell
from kt_exp.results.outcome import ImageScore

FILE_NAME = "per_image.csv"


def write_per_image(scores: Sequence[ImageScore], folder: Path) -> Path:
    """Write one row per phase, concept, image and metric into `folder`; return the file's path."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [declared.name for declared in fields(ImageScore)],
                            lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: safe_cell(value) for key, value in asdict(score).items()}
                     for score in scores)
    path = folder / FILE_NAME
    write_atomically(path, text.getvalue())
    return path
