"""Run the commands of docs/walkthroughs.md and write their output and times into the page.

    python scripts/record_walkthroughs.py                    # all sections
    python scripts/record_walkthroughs.py --only photos      # those whose heading has this word

A section (`##`) starts in an empty folder; `SETUPS` puts into it what the section's user already
has. A `console` block holds commands, on lines that start with `$ `, and what they printed. The
last table has, for each section, the seconds until the first line of the first kt-exp command
without a pipe, the seconds of all commands, and the bytes of the folder before and after.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from walkthroughs import SETUPS

PAGE = Path(__file__).parent.parent / "docs" / "walkthroughs.md"
FIGURES = ("| walkthrough | first line | all commands | on disk before | after |\n"
           "|---|---|---|---|---|\n")
_BLOCK = re.compile(r"(```console\n)(.*?)(```)", re.S)


@dataclass
class Figures:
    """What a section cost."""

    first_line: float | None = None  # seconds
    seconds: float = 0.0
    before: int = 0  # bytes
    after: int = 0

    def row(self, title: str) -> str:
        first = "–" if self.first_line is None else f"{self.first_line:.1f} s"
        return (f"| {title} | {first} | {self.seconds:.0f} s | {_size(self.before)} | "
                f"{_size(self.after)} |\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Record the page; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--only", default="", help="a word of the sections' headings")
    options = parser.parse_args(arguments)
    head, *sections = re.split(r"(?m)^(?=## )", options.page.read_text(encoding="utf-8"))
    rows: dict[str, str] = {}
    for number, section in enumerate(sections):
        title = section.splitlines()[0].removeprefix("## ")
        if options.only.lower() in title.lower() and _BLOCK.search(section):
            sections[number], figures = record(section, SETUPS.get(title))
            rows[title] = figures.row(title)
    page = _with_rows("".join([head, *sections]), rows)
    options.page.write_text(page, encoding="utf-8")
    return 0


def record(section: str, setup: Callable[[Path], None] | None) -> tuple[str, Figures]:
    """Return the section with the output of its commands, and what they cost."""
    figures = Figures()
    home = Path(tempfile.mkdtemp(prefix="walkthrough-"))
    try:
        if setup:
            setup(home)
        figures.before = _bytes(home)
        recorded = _BLOCK.sub(
            lambda block: block[1] + _run_all(block[2], home, figures) + block[3], section)
        figures.after = _bytes(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return recorded, figures


def _run_all(block: str, home: Path, figures: Figures) -> str:
    shown = []
    for line in re.findall(r"^\$ .*(?:\n> .*)*", block, re.M):
        print(line, flush=True)
        output = _run(line[2:].replace("\n> ", "\n"), home, figures)
        print(output, end="", flush=True)
        shown.append(f"{line}\n{output}")
    return "".join(shown)


def _run(command: str, home: Path, figures: Figures) -> str:
    """Return what `command` printed, with the folder's name left out."""
    variables = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100",
        "KT_EXP_STORE": "store", "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    lines: list[str] = []
    timed = figures.first_line is None and command.startswith("kt-exp ") and "|" not in command
    with subprocess.Popen(["bash", "-c", command], cwd=home, env=variables, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if timed and not lines:
                figures.first_line = time.monotonic() - start
            lines.append(f"{line.rstrip()}\n".replace(f"{home}/", "").replace(str(home), "."))
    figures.seconds += time.monotonic() - start
    return "".join(lines)


def _with_rows(page: str, rows: dict[str, str]) -> str:
    """Return the page with the rows of its last table added or replaced."""
    before, found, table = page.partition(FIGURES)
    if not found:
        return page
    old = {line.split(" | ")[0].removeprefix("| "): f"{line}\n" for line in table.splitlines()
           if line.startswith("| ")}
    rest = "".join(f"{line}\n" for line in table.splitlines() if not line.startswith("| "))
    return before + found + "".join((old | rows).values()) + rest


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.0f} kB"


if __name__ == "__main__":
    sys.exit(main())
