"""What all readers and writers of CSV files share."""

from __future__ import annotations

import csv
from typing import Any, TextIO

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def delimiter(header: str) -> str:
    """Return what separates the columns of a CSV file, by its first line: "," or ";".

    Excel writes semicolons where the comma is the decimal sign.
    """
    return ";" if ";" in header and "," not in header else ","


def dict_reader(file: TextIO, skip_spaces: bool = False) -> csv.DictReader[str]:
    """Return the reader of an open CSV file, with its own delimiter.

    With `skip_spaces`, spaces after a delimiter are left out.
    """
    header = file.readline()
    file.seek(0)
    return csv.DictReader(file, delimiter=delimiter(header), skipinitialspace=skip_spaces)


def safe_cell(value: Any) -> Any:
    """Return a value for a cell; text that a spreadsheet would run as a formula gets an apostrophe.

    Numbers and all other text are not changed.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value
