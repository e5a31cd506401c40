"""Concepts to learn: a name, and a description that does not use it.

They come from a set under conf/concepts, from the command line, or from your own file.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from kt_exp.concepts.files import KEYS, Row, read_rows
from kt_exp.config.checks import choice
from kt_exp.errors import UserError, did_you_mean
from kt_exp.unicode import nfc, user_path

log = logging.getLogger(__name__)

MAX_SLUG = 60
_CONTROL = re.compile("[\\x00-\\x08\\x0e-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")


@dataclass
class ConceptsSettings:
    """Which concepts to learn (conf/concepts/*.yaml)."""

    name: str
    source: str
    path: Optional[str]
    items: list[Any]
    only: list[str]
    exchange: str = choice("none", "descriptions")
    on_long_caption: str = choice("error", "truncate")


@dataclass(frozen=True)
class Concept:
    """A visual concept.

    Attributes:
        name: the word to be learned.
        description: its visual appearance, without the name.
        plural: whether the name takes "are" and no article ("skis").
        images_of: the class under which a benchmark has its images, if that is not `name`. No
            model sees it.
        parts: the parts of the description; if empty, `concepts.parts.description_parts` extracts
            them.
    """

    name: str
    description: str
    plural: bool = False
    images_of: Optional[str] = None
    parts: tuple[str, ...] = ()

    @property
    def image_class(self) -> str:
        """The name of the concept's images in folders and label files."""
        return self.images_of or self.name

    @property
    def slug(self) -> str:
        """The name as a folder name, as `folder_name` makes it."""
        return folder_name(self.name)


def folder_name(name: str) -> str:
    """Return `name` as a folder name: lower case, composed letters (NFC), `_` for spaces.

    A name that has to be changed further (punctuation, length) also gets a short hash, so that no
    two names share a folder.
    """
    name = nfc(name.casefold())
    slug = re.sub(r"[^\w-]+", "_", name).strip("_-")[:MAX_SLUG]
    if slug == name.replace(" ", "_"):
        return slug
    return f"{slug or 'concept'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def load_concepts(settings: ConceptsSettings) -> list[Concept]:
    """Return the concepts of the set or of `settings.path`, in their order there.

    White space in names and descriptions is collapsed, and letters are composed (NFC). With
    `exchange: descriptions` each concept gets the description of another one (`exchanged`).

    Raises:
        UserError: there are no concepts; the file is missing, undecodable or invalid, or lacks a
            column; a key is unknown; a value is empty or no text; a description contains its
            `images_of`; two concepts have the same name (ignoring case, spaces, underscores and
            hyphens); a name in `only` is not in the set; or there is only one description to
            exchange.
    """
    concepts = [_concept(where, row) for where, row in _rows(settings)]
    _refuse_duplicates(concepts)
    if settings.exchange == "descriptions":
        concepts = exchanged(concepts, settings.name)
    return _pick(concepts, settings.only)


def warn_of_names(concepts: Iterable[Concept]) -> None:
    """Warn of descriptions that contain their name; published ones do so too ("orange")."""
    for concept in concepts:
        if _contains(concept.description, concept.name):
            log.warning("concepts: the description of '%s' contains the name; inversion is meant "
                        "to start from looks alone", concept.name)


def exchanged(concepts: list[Concept], set_name: str) -> list[Concept]:
    """Return the concepts, each with the description of another one.

    It is that of the concept half a set further on (rounded down, cyclic). Sets tend to be ordered
    by kind, so the description of a neighbour could be partly right.

    Raises:
        UserError: fewer than two concepts.
    """
    if len(concepts) < 2:
        raise UserError("concepts.exchange", f"the set '{set_name}' holds one concept, whose "
                        "description has none to be exchanged with", "give two or more")
    half = len(concepts) // 2
    partners = concepts[half:] + concepts[:half]
    return [replace(concept, description=partner.description, parts=partner.parts)
            for concept, partner in zip(concepts, partners, strict=True)]


def _rows(settings: ConceptsSettings) -> list[Row]:
    if settings.path is not None:
        if settings.items:
            raise UserError("concepts.path", f"given beside the items of '{settings.name}'",
                            f"use concepts=file concepts.path={settings.path}")
        return read_rows(user_path(settings.path))
    if not settings.items:
        raise UserError(
            "concepts", f"the set '{settings.name}' holds no concepts",
            "give concepts=file concepts.path=FILE (.yaml or .csv), or concepts=inline "
            "'concepts.items=[{name: zorb, description: a red ball in a ring}]'",
        )
    return [(f"concepts.items[{index}]", item) for index, item in enumerate(settings.items)]


def _concept(where: str, row: Any) -> Concept:
    if not isinstance(row, Mapping):
        raise UserError(where, f"'{row}' is not a concept", "write {name: …, description: …}")
    for key in row:
        if key not in KEYS:
            raise UserError(where, f"unknown key '{key}'", did_you_mean(str(key), KEYS))
    plural = row.get("plural", False)
    if not isinstance(plural, bool):
        raise UserError(f"{where} plural", f"'{plural}' is neither true nor false")
    images_of = _text(where, row, "images_of") if "images_of" in row else None
    concept = Concept(_text(where, row, "name"), _text(where, row, "description"), plural,
                      images_of, _parts(where, row))
    if images_of and _contains(concept.description, images_of):
        raise UserError(f"{where} description", f"contains '{images_of}', the name that "
                        f"'{concept.name}' stands for", "describe it in other words")
    return concept


def _parts(where: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    parts = row.get("parts", [])
    if not isinstance(parts, Sequence) or isinstance(parts, str):
        raise UserError(f"{where} parts", f"{parts!r} is not a list", "write parts: [a lid, legs]")
    return tuple(_text(f"{where} parts", {"parts": part}, "parts") for part in parts)


def _text(where: str, row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        raise UserError(where, f"no {key}", "write {name: …, description: …}")
    if not isinstance(value, str):
        raise UserError(f"{where} {key}", f"{value!r} is not text", "put it in quotes")
    if not value.strip():
        raise UserError(where, f"empty {key}", "say in words what is to be taught")
    if _CONTROL.search(value):
        raise UserError(f"{where} {key}", f"'{value}' has control characters", "remove them")
    return nfc(" ".join(value.split()))


def _contains(description: str, name: str) -> bool:
    return bool(re.search(rf"\b{re.escape(name)}\b", description, re.IGNORECASE))


def name_key(name: str) -> str:
    """Return a key for comparing names, in NFC, without case, spaces, underscores and hyphens."""
    return re.sub(r"[\s_-]+", "", nfc(name.casefold()))


def _refuse_duplicates(concepts: Iterable[Concept]) -> None:
    seen: dict[str, str] = {}
    for concept in concepts:
        if first := seen.get(name_key(concept.name)):
            raise UserError("concepts", f"two concepts of one name: '{first}' and "
                            f"'{concept.name}'", "rename one, or merge their descriptions")
        seen[name_key(concept.name)] = concept.name


def _pick(concepts: list[Concept], only: Iterable[str]) -> list[Concept]:
    chosen = {name_key(name): name for name in only}
    there = {name_key(concept.name) for concept in concepts}
    for key, name in chosen.items():
        if key not in there:
            raise UserError("concepts.only", f"no concept '{name}' in this set",
                            did_you_mean(name, [concept.name for concept in concepts]))
    return [concept for concept in concepts if not chosen or name_key(concept.name) in chosen]
