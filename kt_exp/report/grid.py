"""A table of text and its four output formats: terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from kt_exp.csv_files import safe_cell
from kt_exp.errors import printable

FORMATS = ("rich", "md", "csv", "latex")
STYLES = {"": "", "soft": "dim", "good": "green", "bad": "red", "warn": "yellow", "bold": "bold"}


class StyledText(NamedTuple):
    """Text of a cell and its style: a key of `STYLES`."""

    text: str
    tone: str = ""


@dataclass
class Grid:
    """A table; the first `labels` columns are text, the others numbers.

    A row of one cell is a heading for the rows below it. `data` has the same numbers for the CSV:
    one dict per measurement.
    """

    title: str
    header: Sequence[str]
    rows: list[list[StyledText]]
    labels: int
    notes: list[StyledText] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)


def print_grid(grid: Grid, form: str, console: Console) -> None:
    """Print `grid` in one of `FORMATS`; the table of "rich" may be wider than the terminal."""
    grid = _printable(grid)
    if form != "rich":
        text = {"md": as_markdown, "csv": as_csv, "latex": as_latex}[form](grid)
        console.out(text, end="", highlight=False)
        return
    table = _rich(grid)
    needed = Measurement.get(console, console.options.update(width=1000), table).maximum
    console.print(Text(grid.title, "bold"), soft_wrap=True)
    width, console.width = console.width, max(console.width, needed)
    console.print(table)
    console.width = width
    for note in grid.notes:
        console.print(Text(note.text, STYLES[note.tone]), soft_wrap=True)


def _printable(grid: Grid) -> Grid:
    """Return `grid` without control characters."""
    def shown(cell: StyledText) -> StyledText:
        return cell._replace(text=printable(cell.text))

    return Grid(printable(grid.title), [printable(title) for title in grid.header],
                [[shown(cell) for cell in row] for row in grid.rows], grid.labels,
                [shown(note) for note in grid.notes],
                [{key: printable(value) if isinstance(value, str) else value
                  for key, value in row.items()} for row in grid.data])


def as_markdown(grid: Grid) -> str:
    """Return `grid` as a Markdown table, its title above and its notes below."""
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    width = len(grid.header)
    lines = [f"{grid.title}\n\n", line(grid.header),
             line(["---"] * grid.labels + ["---:"] * (width - grid.labels))]
    for row in grid.rows:
        cells = [f"**{row[0].text}**"] if len(row) == 1 else [cell.text for cell in row]
        lines.append(line([*cells, *[""] * (width - len(cells))]))
    return "".join([*lines, *(f"\n{note.text}\n" for note in grid.notes)])


def as_csv(grid: Grid) -> str:
    """Return `grid.data` as CSV with a header, one line per measurement."""
    buffer = io.StringIO()
    columns = list(dict.fromkeys(key for row in grid.data for key in row))
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: safe_cell(value) for key, value in row.items()} for row in grid.data)
    return buffer.getvalue()


def as_latex(grid: Grid) -> str:
    """Return `grid` as a LaTeX table (package booktabs)."""
    width = len(grid.header)
    lines = ["\\begin{table}", "\\centering",
             f"\\begin{{tabular}}{{{'l' * grid.labels}{'r' * (width - grid.labels)}}}",
             "\\toprule", " & ".join(map(_escaped, grid.header)) + r" \\", "\\midrule"]
    for row in grid.rows:
        if len(row) == 1:
            lines.append(f"\\multicolumn{{{width}}}{{l}}{{\\textbf{{{_escaped(row[0].text)}}}}} "
                         r"\\")
        else:
            lines.append(" & ".join(_escaped(cell.text) for cell in row) + r" \\")
    notes = " ".join(_escaped(text) for text in (grid.title, *(note.text for note in grid.notes)))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", f"\\caption{{{notes}}}",
                      "\\end{table}", ""])


_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "|": r"\textbar{}",
    "[": "{[}",  # an argument of the line break before it
    "±": r"$\pm$", "\N{MINUS SIGN}": "$-$", "→": r"$\to$",
    "×": r"$\times$", "†": r"$\dagger$", "α": r"$\alpha$", "\N{EN DASH}": "--",
}


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in text)


def _rich(grid: Grid) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for index, title in enumerate(grid.header):
        table.add_column(Text(title), justify="left" if index < grid.labels else "right",
                         no_wrap=True)
    for row in grid.rows:
        if len(row) == 1:
            table.add_row()
            table.add_row(Text(row[0].text, "bold"))
        else:
            table.add_row(*(Text(cell.text, STYLES[cell.tone]) for cell in row))
    return table
