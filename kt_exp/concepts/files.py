"""Reader of concept files in YAML and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml import MarkedYAMLError

from kt_exp.csv_files import delimiter
from kt_exp.errors import UserError, did_you_mean

REQUIRED = ("name", "description")
KEYS = (*REQUIRED, "plural", "images_of", "parts")
SET_KEYS = ("name", "source", "items", "defaults")  # so that a shipped set can be copied
TRUE_OR_FALSE = {"true": True, "yes": True, "1": True,
                 "false": False, "no": False, "0": False, "": False}

MAX_BYTES = 4 * 2**20  # a thousand concepts take a tenth of it
_MAX_DEPTH = 8  # a list of concepts with lists of parts takes 4

Row = tuple[str, Any]  # the place of a concept in its file, and its content


def read_rows(path: Path) -> list[Row]:
    """Return the concepts in `path`, unchecked.

    Raises:
        UserError: the file is missing, empty, too large, not UTF-8, neither YAML nor CSV, or
            invalid; a CSV has a missing, unknown or repeated column, or a row of another length; a
            YAML file is neither a list, a concept set, nor a mapping of names to descriptions, has
            a name twice, has aliases, or is nested too deeply. The error names the line, if there
            is one.
    """
    readers = {".yaml": _yaml_rows, ".yml": _yaml_rows, ".csv": _csv_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError("concepts.path", f"'{path}' is neither YAML nor CSV",
                        "give a file that ends in .yaml, .yml or .csv")
    try:
        text = _read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(str(path), f"not UTF-8 text (byte {error.start})",
                        "save it as UTF-8") from error
    except OSError as error:
        raise UserError("concepts.path", f"cannot read '{path}': {error.strerror}",
                        "give a YAML or CSV file of concepts") from error
    rows = reader(path, text)
    if not rows:
        raise UserError(str(path), "holds no concepts", "give each a name and a description")
    return rows


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # Opening a FIFO would wait for its writer.
        raise UserError("concepts.path", f"cannot read '{path}': not a regular file",
                        "give a YAML or CSV file of concepts")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UserError("concepts.path", f"'{path}' is larger than {MAX_BYTES // 2**20} MiB",
                        "split it into several sets")
    return content


class _Loader(yaml.SafeLoader):
    """YAML of bounded depth without aliases, by which a few lines could hold any number of items.
    """

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise MarkedYAMLError(None, None, "aliases are not read here", mark)
        if self._depth == _MAX_DEPTH:
            raise MarkedYAMLError(None, None, "nested too deeply", mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _yaml_rows(path: Path, text: str) -> list[Row]:
    try:
        content = yaml.load(text, _Loader)  # a SafeLoader
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}", f"invalid YAML: {error.problem or error.context}",
                        "put text with ': ' or '#' in it in quotes") from error
    # An impossible date, a word that is no `!!bool`: its constructors raise almost anything.
    except Exception as error:
        raise UserError(str(path), f"invalid YAML: {error}") from error
    if isinstance(content, Mapping):
        if _is_names(content):
            _refuse_repeated(path, text)
            return [(f"{path} {name}", {"name": name, "description": description})
                    for name, description in content.items()]
        content = _items(path, content)
    if content is not None and not isinstance(content, list):
        raise UserError(str(path), "not a list of concepts",
                        "write 'name: description' or '- {name: …, description: …}' a line")
    return [(f"{path} item {number}", item) for number, item in enumerate(content or [], start=1)]


def _is_names(content: Mapping[Any, Any]) -> bool:
    """Return whether a mapping is one of names to descriptions, rather than a set or a concept."""
    return not {*SET_KEYS, *KEYS} & content.keys() and any(
        isinstance(description, str) for description in content.values())


def _refuse_repeated(path: Path, text: str) -> None:
    """Refuse a name that occurs twice, of which YAML would keep the last."""
    lines: dict[str, int] = {}
    mapping = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, _ in mapping.value if mapping else []:
        line = key.start_mark.line + 1
        if first := lines.get(key.value):
            raise UserError(f"{path} line {line}", f"'{key.value}' is in line {first}, too",
                            "give each name once")
        lines[key.value] = line


def _items(path: Path, concept_set: Mapping[Any, Any]) -> Any:
    if "description" in concept_set:
        raise UserError(str(path), "a single concept, not a list",
                        "begin it with '- ', or write 'name of the concept: its description'")
    for key in concept_set:
        if key not in SET_KEYS:
            raise UserError(str(path), f"unknown key '{key}'", did_you_mean(str(key), SET_KEYS))
    return concept_set.get("items")


def _csv_rows(path: Path, text: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True,
                        delimiter=delimiter(text.lstrip().partition("\n")[0]))
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num}", f"invalid CSV: {error}",
                        "close each double quote, and write one inside a text twice") from error
    if not lines:
        return []
    header = [cell.strip().lower() for cell in lines[0][1]]
    _check_header(path, header)
    rows = []
    for line, cells in lines[1:]:
        where = f"{path} line {line}"
        if len(cells) != len(header):
            raise UserError(where, f"{len(cells)} values for the {len(header)} columns "
                            f"{', '.join(header)}", "put a text that holds the separator in double "
                            "quotes")
        row: dict[str, Any] = dict(zip(header, cells, strict=True))
        if "plural" in row:
            plural = row["plural"].strip().lower()
            row["plural"] = TRUE_OR_FALSE.get(plural, plural)
        if "parts" in row:
            row["parts"] = [part for part in row["parts"].split(";") if part.strip()]
        if not row.get("images_of", "").strip():
            row.pop("images_of", None)
        rows.append((where, row))
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    found = f"found: {', '.join(header)}"
    for name in REQUIRED:
        if name not in header:
            raise UserError(f"{path} line 1", f"no column '{name}' ({found})",
                            "write the header 'name,description'")
    for name in header:
        if name not in KEYS:
            raise UserError(f"{path} line 1", f"unknown column '{name}'", did_you_mean(name, KEYS))
        if header.count(name) > 1:
            raise UserError(f"{path} line 1", f"column '{name}' is there twice ({found})")
