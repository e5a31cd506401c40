"""Concepts to teach: a name, and a description in words that does not use it.

They come from a set under conf/concepts, from the command line, or from a file of one's own.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import yaml

from kt_exp.config.checks import choice
from kt_exp.errors import UserError, did_you_mean

log = logging.getLogger(__name__)

REQUIRED = ("name", "description")
KEYS = (*REQUIRED, "plural")
SET_KEYS = ("name", "source", "items", "defaults")  # so that a shipped set can be copied
MAX_SLUG = 60
TRUE_OR_FALSE = {"true": True, "yes": True, "1": True,
                 "false": False, "no": False, "0": False, "": False}

Row = tuple[str, Any]  # where a concept was written, and what was written there


@dataclass
class ConceptsSettings:
    """Which concepts to teach (conf/concepts/*.yaml)."""

    name: str
    source: str
    path: Optional[str]
    items: list[Any]
    only: list[str]
    on_long_caption: str = choice("error", "truncate")


@dataclass(frozen=True)
class Concept:
    """A visual concept; `plural` where the name takes "are" and no article ("skis")."""

    name: str
    description: str
    plural: bool = False

    @property
    def slug(self) -> str:
        """The name as a folder name: lower case, `_` for spaces.

        A name that cannot be one as it stands (punctuation, great length) gets a short hash too,
        so that no two concepts of a set share a folder.
        """
        name = self.name.casefold()
        slug = re.sub(r"[^\w-]+", "_", name).strip("_-")[:MAX_SLUG]
        if slug == name.replace(" ", "_"):
            return slug
        return f"{slug or 'concept'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def load_concepts(settings: ConceptsSettings) -> list[Concept]:
    """Return the concepts of the set or of `settings.path`, in their order there.

    White space in names and descriptions is collapsed. A description that contains its name is
    only warned about: published captions do it too ("orange").

    Raises:
        UserError: no concepts, a missing, undecodable or invalid file, a missing column, an unknown
            key, an empty or non-text name or description, two concepts of one name (whatever the
            case, spaces, underscores and hyphens), or a name in `only` that is not in the set.
    """
    concepts = [_concept(where, row) for where, row in _rows(settings)]
    _refuse_duplicates(concepts)
    chosen = _pick(concepts, settings.only)
    for concept in chosen:
        if re.search(rf"\b{re.escape(concept.name)}\b", concept.description, re.IGNORECASE):
            log.warning("concepts: the description of '%s' contains the name; inversion is meant "
                        "to start from looks alone", concept.name)
    return chosen


def _rows(settings: ConceptsSettings) -> list[Row]:
    if settings.path is not None:
        if settings.items:
            raise UserError("concepts.path", f"given beside the items of '{settings.name}'",
                            f"use concepts=file concepts.path={settings.path}")
        return _read(Path(settings.path).expanduser())
    if not settings.items:
        raise UserError(
            "concepts", f"the set '{settings.name}' holds no concepts",
            "give concepts=file concepts.path=FILE (.yaml or .csv), or concepts=inline "
            "'concepts.items=[{name: zorb, description: a red ball in a ring}]'",
        )
    return [(f"concepts.items[{index}]", item) for index, item in enumerate(settings.items)]


def _read(path: Path) -> list[Row]:
    readers = {".yaml": _yaml_rows, ".yml": _yaml_rows, ".csv": _csv_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError("concepts.path", f"'{path}' is neither YAML nor CSV",
                        "give a file that ends in .yaml, .yml or .csv")
    try:
        text = path.read_bytes().decode("utf-8-sig")
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


def _yaml_rows(path: Path, text: str) -> list[Row]:
    try:
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}", f"invalid YAML: {error.problem or error.context}",
                        "put text with ': ' or '#' in it in quotes") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date
        raise UserError(str(path), f"invalid YAML: {error}") from error
    if isinstance(content, Mapping):
        for key in content:
            if key not in SET_KEYS:
                raise UserError(str(path), f"unknown key '{key}'",
                                did_you_mean(str(key), SET_KEYS))
        content = content.get("items")
    if content is not None and not isinstance(content, list):
        raise UserError(str(path), "not a list of concepts",
                        "write one '- {name: …, description: …}' a line")
    return [(f"{path} item {number}", item) for number, item in enumerate(content or [], start=1)]


def _csv_rows(path: Path, text: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
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
                            f"{', '.join(header)}", "put a text with commas in double quotes")
        row: dict[str, Any] = dict(zip(header, cells, strict=True))
        if "plural" in row:
            plural = row["plural"].strip().lower()
            row["plural"] = TRUE_OR_FALSE.get(plural, plural)
        rows.append((where, row))
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    found = f"found: {', '.join(header)}"
    for name in REQUIRED:
        if name not in header:
            raise UserError(f"{path} line 1", f"no column '{name}' ({found})",
                            "write the header 'name,description', separated by commas")
    for name in header:
        if name not in KEYS:
            raise UserError(f"{path} line 1", f"unknown column '{name}'", did_you_mean(name, KEYS))
        if header.count(name) > 1:
            raise UserError(f"{path} line 1", f"column '{name}' is there twice ({found})")


def _concept(where: str, row: Any) -> Concept:
    if not isinstance(row, Mapping):
        raise UserError(where, f"'{row}' is not a concept", "write {name: …, description: …}")
    for key in row:
        if key not in KEYS:
            raise UserError(where, f"unknown key '{key}'", did_you_mean(str(key), KEYS))
    plural = row.get("plural", False)
    if not isinstance(plural, bool):
        raise UserError(f"{where} plural", f"'{plural}' is neither true nor false")
    return Concept(_text(where, row, "name"), _text(where, row, "description"), plural)


def _text(where: str, row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        raise UserError(where, f"no {key}", "write {name: …, description: …}")
    if not isinstance(value, str):
        raise UserError(f"{where} {key}", f"{value!r} is not text", "put it in quotes")
    if not value.strip():
        raise UserError(where, f"empty {key}", "say in words what is to be taught")
    return " ".join(value.split())


def name_key(name: str) -> str:
    """Return what two spellings of a name share: no case, spaces, underscores or hyphens."""
    return re.sub(r"[\s_-]+", "", name.casefold())


def _refuse_duplicates(concepts: Iterable[Concept]) -> None:
    seen: dict[str, str] = {}
    for concept in concepts:
        if first := seen.get(name_key(concept.name)):
            raise UserError("concepts", f"two concepts of one name: '{first}' and "
                            f"'{concept.name}'", "rename one, or merge their descriptions")
        seen[name_key(concept.name)] = concept.name


def _pick(concepts: list[Concept], only: Iterable[str]) -> list[Concept]:
    wanted = {name_key(name): name for name in only}
    there = {name_key(concept.name) for concept in concepts}
    for key, name in wanted.items():
        if key not in there:
            raise UserError("concepts.only", f"no concept '{name}' in this set",
                            did_you_mean(name, [concept.name for concept in concepts]))
    return [concept for concept in concepts if not wanted or name_key(concept.name) in wanted]
