"""One preparation: where the download lies, where to write, and what is said at the end."""

from __future__ import annotations

import argparse
import csv
import importlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from kt_exp.csv_files import dict_reader
from kt_exp.data.image_files import listing
from kt_exp.errors import UserError

SOURCE = "--source"


class Row(NamedTuple):
    """A row of a CSV file, and where it stands."""

    line: str
    cells: dict[str, str]


@dataclass
class Job:
    """What a recipe works with.

    Attributes:
        source: the folder of the official download; nothing in it is changed.
        out: an empty folder, renamed to what the user gave when all is written.
        partial: whether files that are listed but not there are left out instead of refused.
        options: the data set's own options.
        notes: lines for the user: what was written, and what the paper has.
    """

    source: Path
    out: Path
    partial: bool
    options: argparse.Namespace
    notes: list[str] = field(default_factory=list)

    def find(self, *patterns: str) -> Path | None:
        """Return what matches the first pattern that matches anything: the least deep, by name."""
        for pattern in patterns:
            found = [path for path in self.source.rglob(pattern) if visible(path, self.source)]
            if found:
                return min(found, key=lambda path: (len(path.parts), path))
        return None

    def need(self, *patterns: str, remedy: str) -> Path:
        """Return what `find` finds.

        Raises:
            UserError: nothing; says what was expected, and what is there.
        """
        if found := self.find(*patterns):
            return found
        raise self.wrong(f"no {' or '.join(patterns)}", remedy)

    def wrong(self, problem: str, remedy: str) -> UserError:
        """Return the error of a source in another layout, with what is in it."""
        there = sorted(path.name for path in self.source.iterdir()) or ["nothing"]
        return UserError(SOURCE, f"{problem} in {self.source} (there: {listing(there, 6)})", remedy)

    def place(self, file: Path, name: str) -> None:
        """Put a file of the source at `out/name`: as a hard link where possible, else a copy.

        Raises:
            UserError: something is there already.
        """
        target = self.out / name
        if target.exists():
            raise UserError(str(file), f"a second file for {name}", "rename or remove one of them")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), target)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(file, target)

    def absent(self, names: Sequence[str], listed: int, where: Path) -> None:
        """Refuse files that are listed but not there, or with `--partial` note them.

        Raises:
            UserError: some are absent, or with `--partial` all of them.
        """
        if not names:
            return
        problem = f"{len(names):,} of {listed:,} listed files are not there: {listing(names, 3)}"
        if not self.partial or len(names) == listed:
            raise UserError(str(where), problem, "complete the download, or give --partial to do "
                            "without some")
        self.notes.append(f"left out: {problem}")

    def count(self, found: int, paper: int | Sequence[int], what: str) -> None:
        """Note a count, and what the paper has if that is another."""
        expected = [paper] if isinstance(paper, int) else paper
        wanted = " or ".join(f"{number:,}" for number in expected)
        told = "as in the paper" if found in expected else f"the paper has {wanted}"
        self.notes.append(f"{found:,} {what}; {told}")


def visible(path: Path, root: Path) -> bool:
    """Return whether no part of the path below `root` is hidden, as macOS' `._` files are."""
    parts = path.relative_to(root).parts
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Return the rows of a CSV file; names and cells are stripped.

    Raises:
        UserError: not a CSV file, a column it lacks, no rows.
    """
    remedy = f"give a CSV with the columns {', '.join(columns)}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = dict_reader(lines, skip_spaces=True)
            names = [(name or "").strip() for name in reader.fieldnames or []]
            reader.fieldnames = names
            rows = [Row(f"{path} line {reader.line_num}",
                        {name: (cell or "").strip() for name, cell in row.items() if name in names})
                    for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(str(path), f"not a CSV file ({error})", remedy) from error
    if missing := [name for name in columns if name not in names]:
        raise UserError(str(path), f"lacks the columns {', '.join(missing)} "
                        f"(it has: {listing(names)})", remedy)
    if not rows:
        raise UserError(str(path), "has no rows", remedy)
    return rows


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def imported(module: str, extra: str) -> ModuleType:
    """Return an optional package.

    Raises:
        UserError: it is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(module.split(".")[0], "not installed", f"pip install 'kt_exp[{extra}]'") \
            from error
