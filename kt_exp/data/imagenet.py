"""ImageNet-1k: class names, WordNet ids and the two layouts of its validation images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from kt_exp.csv_files import dict_reader
from kt_exp.data.image_files import (
    ClassFolder,
    ImageFiles,
    found_in,
    labelled,
    listing,
    reading,
)
from kt_exp.errors import UserError
from kt_exp.unicode import on_disk

CLASSES = 1000
ONE_TEMPLATE = {"photo": "a photo of a {}.", "name": "{}"}
TEMPLATES = ("openai", "simple", *ONE_TEMPLATE)
CSV_REMEDY = "give a CSV with the columns 'file' and 'class_index' or 'wnid'"


def wnids() -> list[str]:
    """Return the 1000 WordNet ids in label order (as timm ships them)."""
    from timm.data import ImageNetInfo

    return ImageNetInfo("imagenet-1k").label_names()


def class_names() -> list[str]:
    """Return the 1000 class names in label order (OpenAI's, as open_clip ships them).

    "missile" and "sunglasses" each name two classes. Only the first of such a pair can be
    recognised, as in all zero-shot results with these names.
    """
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return list(IMAGENET_CLASSNAMES)


def wordnet_names() -> list[str]:
    """Return the first WordNet 3.0 lemma of each class, in label order (as timm ships them).

    "crane" and "maillot" each name two classes.
    """
    from timm.data import ImageNetInfo

    return [lemmas.split(", ")[0] for lemmas in ImageNetInfo("imagenet-1k").label_descriptions()]


def names_from(path: Path, where: str) -> list[str]:
    """Return the class names of a text file: 1000 lines in label order.

    Args:
        where: the config key of `path`, for error messages.

    Raises:
        UserError: no such file, not text, or not 1000 names.
    """
    if not path.is_file():
        raise UserError(where, f"no such file: {path}", "give a text file of 1000 names, a line "
                        "each, in the order of the labels")
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(where, f"{path} is not text ({error})", "save it as UTF-8") from error
    if len(names) != CLASSES or not all(names):
        raise UserError(where, f"{path} has {sum(map(bool, names))} names in {len(names)} lines",
                        f"give {CLASSES} lines, none of them empty")
    return names


def templates(names: str) -> list[str]:
    """Return prompt templates with `{}` for the class name.

    Args:
        names: one of `TEMPLATES`. "openai": the 80 of CLIP's ImageNet evaluation; "simple": the
            best 7 of them; "photo": "a photo of a {}."; "name": the name alone.
    """
    from open_clip import zero_shot_metadata

    if names in ONE_TEMPLATE:
        return [ONE_TEMPLATE[names]]
    of = {
        "openai": zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES,
        "simple": zero_shot_metadata.SIMPLE_IMAGENET_TEMPLATES,
    }
    return [template("{}") for template in of[names]]


def read_val(root: Path, ids: Sequence[str], where: str) -> ImageFiles:
    """Return the images of `root/val/<wnid>/*`, in label order; some classes may be absent.

    Args:
        ids: WordNet id of each class, in label order.
        where: the config key of `root`, for error messages.

    Raises:
        UserError: the folder does not exist or has no images, or a sub-folder is no class.
    """
    val = root / "val"
    if not val.is_dir():
        problem = f"no folder val in {root} {found_in(root)}" if root.is_dir() \
            else f"no such folder: {root}"
        raise UserError(where, problem, "give the folder that holds val/<wnid>/*")
    with reading(val):
        found = {path.name for path in val.iterdir() if path.is_dir() and path.name[0] != "."}
    if unknown := sorted(found - set(ids)):
        raise UserError(where, f"not ImageNet-1k's wnids in {val}: {listing(unknown)}",
                        "name the folders by wnid, as n01440764")
    images = labelled(val, [ClassFolder(i, val / i).images() if i in found else [] for i in ids])
    if not len(images):
        raise UserError(where, f"no images in the sub-folders of {val} {found_in(val)}",
                        "sort the validation images into val/<wnid>/")
    return images


def read_labels_csv(path: Path, ids: Sequence[str], where: str) -> ImageFiles:
    """Return the images that a labels CSV lists, in its order.

    Columns: `file`, relative to the CSV's folder, and `wnid` or `class_index` (0-based) or both;
    other columns are ignored.

    Args:
        ids: WordNet id of each class, in label order.
        where: the config key of `path`, for error messages.

    Raises:
        UserError: the file does not exist, has no rows, or lacks a column; a class is unknown, a
            `wnid` contradicts the `class_index`, or an image file does not exist.
    """
    rows = _read_rows(path, where)
    index_of = {wnid: index for index, wnid in enumerate(ids)}
    files, labels = [], []
    for line, row in rows:
        file = on_disk(path.parent / (row["file"] or ""))
        if not file.is_file():
            raise UserError(line, f"no such file: {file}", "paths start at the CSV's folder")
        files.append(file)
        labels.append(_label(row, index_of, line))
    return ImageFiles(path.parent, files, labels)


def _read_rows(path: Path, where: str) -> list[tuple[str, dict[str, str]]]:
    """Return each row with its place in the file."""
    if not path.is_file():
        raise UserError(where, f"no such file: {path}", CSV_REMEDY)
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = dict_reader(lines)
            rows = [(f"{path} line {reader.line_num}", row) for row in reader]
            columns = list(reader.fieldnames or ["none"])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(str(path), f"not a CSV file ({error})", CSV_REMEDY) from error
    if "file" not in columns or not {"class_index", "wnid"} & set(columns):
        raise UserError(str(path), f"its columns are: {listing(columns)}", CSV_REMEDY)
    if not rows:
        raise UserError(str(path), "lists no images", "add a row per image")
    return rows


def _label(row: dict[str, str], index_of: dict[str, int], line: str) -> int:
    wnid, index = row.get("wnid"), row.get("class_index")
    if wnid and wnid not in index_of:
        raise UserError(line, f"unknown wnid '{wnid}'", "give one of ImageNet-1k's, as n01440764")
    if index and not (index.isdecimal() and int(index) < len(index_of)):
        raise UserError(line, f"class_index '{index}' is not a class",
                        f"give 0 to {len(index_of) - 1}")
    if not (wnid or index):
        raise UserError(line, "neither wnid nor class_index", "label every image")
    if wnid and index and index_of[wnid] != int(index):
        raise UserError(line, f"class_index {index} is not {wnid} ({index_of[wnid]})",
                        "correct one of the two")
    return index_of[wnid] if wnid else int(index or 0)
