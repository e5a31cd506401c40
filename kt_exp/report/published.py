"""The paper's numbers, from published.yaml, and the measurement that each corresponds to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from kt_exp.errors import UserError, did_you_mean

MEASUREMENT = ("phase", "concept", "split", "metric")


@dataclass(frozen=True)
class Cell:
    """One published number, in percent; None if the paper has none.

    `conditions` are the settings of the runs that measure it; None if no run can (means, numbers
    from other work).
    """

    percent: float | None
    phase: str
    concept: str | None
    split: str | None
    metric: str
    conditions: Mapping[str, Any] | None


@dataclass(frozen=True)
class Row:
    """A row of a table: its labels from the left, and a cell for each column.

    Attributes:
        reference: the work that its numbers are from, which no run measures; empty: this paper.
        mean: whether it holds the means of the table's columns.
    """

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    reference: str = ""
    mean: bool = False


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper; `mean` is the index of the column with the row's mean."""

    name: str
    title: str
    source: str
    notes: tuple[str, ...]
    columns: tuple[str, ...]
    mean: int | None
    curves: bool
    rows: tuple[Row, ...]


@cache
def read_published() -> dict[str, Any]:
    """Return the content of published.yaml."""
    text = resources.files("kt_exp.report").joinpath("published.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


@cache
def published() -> dict[str, Table]:
    """Return all tables of accuracies and scores by name."""
    content = read_published()
    tables = content["tables"]
    return {name: _table(name, entry, content["source"],
                         tables[entry["rows_of"]]["rows"] if "rows_of" in entry else [])
            for name, entry in tables.items()}


def find_table(name: str) -> Table:
    """Return the table of that name.

    Raises:
        UserError: there is none.
    """
    tables = published()
    if name not in tables:
        known = [*tables, *read_published()["costs"]]
        raise UserError("--table", f"no table '{name}'", did_you_mean(name, known, most=20))
    return tables[name]


def _table(name: str, entry: Mapping[str, Any], source: str,
           more_rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = entry["columns"]
    means = [index for index, column in enumerate(columns) if column.get("mean")]
    return Table(
        name, entry["title"], f"{source} ({entry['source']})", tuple(entry.get("notes", ())),
        tuple(column["label"] for column in columns), means[0] if means else None,
        entry.get("curves", False),
        tuple(_row(row, columns, entry.get("where", {})) for row in [*entry["rows"], *more_rows]),
    )


def _row(row: Mapping[str, Any], columns: list[dict[str, Any]], shared: Mapping[str, Any]) -> Row:
    reference, mean = row.get("reference", ""), row.get("mean", False)
    cells = []
    for index, (column, percent) in enumerate(zip(columns, row["percent"], strict=True)):
        own = {key: values[index] for key, values in row.get("each", {}).items()
               if values[index] is not None}
        where = {**shared, **row.get("where", {}), **column.get("where", {}), **own}
        conditions = {key: value for key, value in where.items() if key not in MEASUREMENT}
        measurable = bool(conditions) and not (reference or mean or column.get("mean"))
        cells.append(Cell(percent, where.get("phase", "transferred"), where.get("concept"),
                          where.get("split"), where.get("metric", "accuracy"),
                          conditions if measurable else None))
    return Row(tuple(row["labels"]), tuple(cells), reference, mean)
