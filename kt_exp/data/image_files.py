"""Image files on disk, and the reader of class folders.

A class folder is a sub-folder named after its class (`_` stands for a space); a
`classnames.json` beside the sub-folders, `{folder: name}`, gives others. Images are searched at
any depth, hidden files and folders are passed over, and everything is sorted, so that the order
of a set is the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kt_exp.concepts import name_key
from kt_exp.errors import UserError

IMAGE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"]
)
WHITE_16 = 2**16 - 1
CLASS_NAMES_FILE = "classnames.json"
SHOWN = 4
CLASS_NAMES_REMEDY = 'write {"folder": "name"}'


@dataclass(frozen=True)
class ImageFiles:
    """Labelled image files under one root: an `ImageSet`."""

    root: Path
    files: list[Path]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.files)

    def open(self, index: int) -> Image.Image:
        """Return image `index`, decoded whole, in RGB.

        Raises:
            UserError: the file cannot be read as an image, or not to its end; names its path.
        """
        return decoded(self.files[index], to_rgb)

    def fingerprint(self) -> str:
        """Return a hash of relative paths, labels, sizes and modification times, in order."""
        digest = hashlib.sha256()
        for path, label in zip(self.files, self.labels, strict=True):
            stat = path.stat()
            relative = os.path.relpath(path, self.root)
            digest.update(f"{relative}\0{label}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def decoded(path: Path, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return the image in a file, decoded whole and converted.

    Raises:
        UserError: the file cannot be read as an image, or not to its end; names its path.
    """
    try:
        with Image.open(path) as image:
            return convert(image)
    # PIL's decoders meet damage with almost any exception, struct.error and zlib's included.
    except Exception as error:
        raise UserError(
            str(path), f"not a readable image ({_reason(error)})",
            "replace or remove it, or set benchmark.on_bad_image=skip",
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in RGB; grey of 16 bits is scaled, where PIL makes white of all above 255.

    Raises:
        ValueError: grey of 32 bits, beyond the range of 16.
    """
    if image.mode[0] not in "IF":  # I;16, I;16B, I and F are grey of more than 8 bits
        return image.convert("RGB")
    grey = np.asarray(image)
    if image.mode == "F" or grey.min() < 0 or grey.max() > WHITE_16:
        raise ValueError("32-bit grey, in which no value is known to be white: save it in 8 or 16")
    return Image.fromarray(np.rint(grey * (255 / WHITE_16)).astype(np.uint8)).convert("RGB")


@dataclass(frozen=True)
class ClassFolder:
    """One class on disk."""

    name: str
    path: Path

    def images(self, limit: int = 0) -> list[Path]:
        """Return the folder's image files, sorted; the first `limit` of them unless it is 0."""
        found = sorted(
            path for path in self.path.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(self.path).parts)
            and path.is_file()
        )
        return found[: limit or None]


def class_folders(root: Path, where: str) -> list[ClassFolder]:
    """Return the class folders in `root`, sorted by folder name.

    Args:
        where: the config key that gave `root`, for the error.

    Raises:
        UserError: no such folder, no sub-folder in it, two classes of one name, or a
            `classnames.json` that is invalid or names a folder that is not there.
    """
    if not root.is_dir():
        raise UserError(where, f"no such folder: {root}",
                        "give a folder with one sub-folder per class")
    paths = sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not paths:
        raise UserError(where, f"no sub-folder in {root} {found_in(root)}",
                        "put each class into its own")
    names = _read_class_names(root, {path.name for path in paths})
    folders = [
        ClassFolder(names.get(path.name, path.name.replace("_", " ")), path) for path in paths
    ]
    _refuse_shared_names(folders, where)
    return folders


def require_images(folders: Sequence[ClassFolder], where: str) -> None:
    """Raise `UserError` for the first class folder without images; `where` as in `class_folders`.
    """
    for folder in folders:
        if not folder.images(1):
            raise UserError(where, f"no images of '{folder.name}' in {folder.path} "
                            f"{found_in(folder.path)}", "put .jpg or .png files there, or remove "
                            "the folder")


def labelled(root: Path, files_per_class: Sequence[list[Path]]) -> ImageFiles:
    """Return one image set of all classes: the files at position i get label i."""
    pairs = [(file, label) for label, files in enumerate(files_per_class) for file in files]
    return ImageFiles(root, [file for file, _ in pairs], [label for _, label in pairs])


def first_per_class(images: ImageFiles, limit: int) -> ImageFiles:
    """Return the first `limit` images of each class, in their order; all of them if it is 0."""
    if not limit:
        return images
    seen: dict[int, int] = {}
    kept = []
    for index, label in enumerate(images.labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= limit:
            kept.append(index)
    return ImageFiles(
        images.root, [images.files[i] for i in kept], [images.labels[i] for i in kept]
    )


def _reason(error: Exception) -> str:
    """A short reason, without the path that the message of some errors repeats."""
    if isinstance(error, UnidentifiedImageError):
        return "of no known format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _read_class_names(root: Path, folders: set[str]) -> dict[str, str]:
    path = root / CLASS_NAMES_FILE
    if not path.exists():
        return {}
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(str(path), f"invalid JSON ({error})", CLASS_NAMES_REMEDY) from error
    if not (isinstance(names, dict) and all(_is_name(name) for name in names.values())):
        raise UserError(str(path), "not a map of folders to names", CLASS_NAMES_REMEDY)
    if absent := sorted(names.keys() - folders):
        raise UserError(str(path), f"names folders that are not there: {', '.join(absent)}",
                        f"there are: {listing(sorted(folders))}")
    return names


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _refuse_shared_names(folders: list[ClassFolder], where: str) -> None:
    seen: dict[str, ClassFolder] = {}
    for folder in folders:
        other = seen.setdefault(name_key(folder.name), folder)
        if other is not folder:
            raise UserError(
                where, f"folders '{other.path.name}' and '{folder.path.name}' are both the class "
                f"'{folder.name}'", f"merge them, or rename one in {CLASS_NAMES_FILE}",
            )


def found_in(folder: Path) -> str:
    """Return in parentheses what a folder holds: for the error that it is not what was expected."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return f"(found: {listing(names or ['nothing'], SHOWN)})"


def listing(names: Sequence[str], most: int = 12) -> str:
    """Return names as a short comma-separated list that says how many there are."""
    more = f" … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
