"""Image files on disk, and the reader of class folders.

A class folder is a sub-folder with the name of its class, `_` for spaces. A `classnames.json`
beside the sub-folders, `{folder: name}`, overrides names. Images are found at any depth; hidden
files and folders are ignored. All is sorted, so that a set has the same order on every machine.
The names of classes have to be UTF-8, those of files need not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kt_exp.concepts import name_key
from kt_exp.errors import UserError
from kt_exp.unicode import nfc

IMAGE_SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".jp2", ".j2k", ".jpf", ".jpx", ".avif", ".heic", ".heif", ".tga",
])
HEIF_SUFFIXES = frozenset([".heic", ".heif"])
# Images by their names, of formats that are not read. They are listed as unreadable, since a set
# would silently be smaller without them.
OTHER_SUFFIXES = frozenset([
    ".svg", ".psd", ".jxl", ".exr", ".hdr", ".dcm", ".dicom", ".nii", ".mha", ".nrrd", ".xcf",
    ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",  # of cameras
])
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
        """Return image `index`, fully decoded, in RGB.

        Raises:
            UserError: the file is no readable image, or is truncated; the error names its path.
        """
        return decoded(self.files[index], to_rgb)

    def fingerprint(self) -> str:
        """Return a hash of relative paths, labels, sizes and modification times, in order."""
        digest = hashlib.sha256()
        for path, label in zip(self.files, self.labels, strict=True):
            stat = path.stat()
            relative = os.path.relpath(path, self.root)
            line = f"{relative}\0{label}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
            digest.update(os.fsencode(line))
        return digest.hexdigest()


def decoded(path: Path, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return the image in a file, fully decoded and converted.

    Raises:
        UserError: the file is no readable image, or is truncated; the error names its path.
    """
    _check_suffix(path)
    try:
        with Image.open(path) as image:
            return convert(image)
    # On damaged files PIL's decoders raise almost anything, including struct.error and zlib's.
    except Exception as error:
        raise UserError(
            str(path), f"not a readable image ({_reason(error)})",
            "replace or remove it, or set benchmark.on_bad_image=skip",
        ) from error


def _check_suffix(path: Path) -> None:
    """Refuse formats that are not read; make Pillow read HEIC."""
    suffix = path.suffix.lower()
    if suffix in OTHER_SUFFIXES:
        raise UserError(str(path), f"images of the format {suffix} are not read",
                        "save it as PNG, or set benchmark.on_bad_image=skip")
    if suffix in HEIF_SUFFIXES:
        _read_heif(path)


def _read_heif(path: Path) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise UserError(str(path), "the package pillow-heif is not installed",
                        "pip install 'kt_exp[heic]', or set benchmark.on_bad_image=skip") from None
    register_heif_opener()


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in RGB; 16-bit grey is scaled, where PIL would clip at 255.

    Raises:
        ValueError: the image is 32-bit grey beyond the 16-bit range.
    """
    if image.mode[0] not in "IF":  # I;16, I;16B, I and F: grey of more than 8 bits
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
        """Return the folder's first `limit` image files, sorted; all if `limit` is 0.

        Files are images by their suffixes; some may turn out to be unreadable.

        Raises:
            UserError: the folder or a sub-folder cannot be read.
        """
        found: list[Path] = []
        with reading(self.path):
            for folder, inside, files in os.walk(self.path, onerror=_raise):
                inside[:] = [name for name in inside if not name.startswith(".")]
                paths = [Path(folder, name) for name in files if not name.startswith(".")]
                found += [path for path in paths
                          if path.suffix.lower() in IMAGE_SUFFIXES | OTHER_SUFFIXES
                          and path.is_file()]
        return sorted(found)[: limit or None]

    @property
    def has_images(self) -> bool:
        """Whether one of the images is of a format that is read."""
        return any(path.suffix.lower() in IMAGE_SUFFIXES for path in self.images())


def class_folders(root: Path, where: str) -> list[ClassFolder]:
    """Return the class folders in `root`, sorted by folder name.

    Args:
        where: the config key of `root`, for error messages.

    Raises:
        UserError: the folder does not exist, cannot be read or has no sub-folders, two classes
            have the same name, a name is not UTF-8, or `classnames.json` is invalid or names a
            missing folder.
    """
    with reading(root):
        if not root.is_dir():
            raise UserError(where, f"no such folder: {root}",
                            "give a folder with one sub-folder per class")
        paths = sorted((nfc(path.name), path) for path in root.iterdir()
                       if path.is_dir() and not path.name.startswith("."))
    if not paths:
        raise UserError(where, f"no sub-folder in {root} {found_in(root)}",
                        "put each class into its own")
    names = _read_class_names(root, {folder for folder, _ in paths})
    folders = [ClassFolder(names.get(folder, folder.replace("_", " ")), path)
               for folder, path in paths]
    _refuse_undecodable_names(folders, where)
    _refuse_shared_names(folders, where)
    return folders


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """List the files below `folder` in this block.

    Raises:
        UserError: it or a folder below cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise UserError(str(error.filename or folder), f"cannot be read ({error.strerror})",
                        "make it readable, or remove it") from error


def _raise(error: OSError) -> None:
    raise error


def require_images(folders: Sequence[ClassFolder], where: str) -> None:
    """Raise `UserError` for the first class folder without images; `where` as in `class_folders`.
    """
    for folder in folders:
        if not folder.has_images:
            raise UserError(where, f"no images of '{folder.name}' in {folder.path} "
                            f"{found_in(folder.path)}", "put .jpg or .png files there, or remove "
                            "the folder")


def labelled(root: Path, files_per_class: Sequence[list[Path]]) -> ImageFiles:
    """Return the images of all classes as one set; `files_per_class[i]` get label i."""
    pairs = [(file, label) for label, files in enumerate(files_per_class) for file in files]
    return ImageFiles(root, [file for file, _ in pairs], [label for _, label in pairs])


def first_per_class(images: ImageFiles, limit: int) -> ImageFiles:
    """Return the first `limit` images of each class, in order; all if `limit` is 0."""
    if not limit:
        return images
    seen: dict[int, int] = {}
    chosen = []
    for index, label in enumerate(images.labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= limit:
            chosen.append(index)
    return ImageFiles(
        images.root, [images.files[i] for i in chosen], [images.labels[i] for i in chosen]
    )


def _reason(error: Exception) -> str:
    """Return a short reason, without the path that some error messages contain."""
    if isinstance(error, UnidentifiedImageError):
        return "of no known format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _read_class_names(root: Path, folders: set[str]) -> dict[str, str]:
    path = root / CLASS_NAMES_FILE
    if not path.is_file():
        return {}
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(str(path), f"invalid JSON ({error})", CLASS_NAMES_REMEDY) from error
    if not (isinstance(names, dict) and all(_is_name(name) for name in names.values())):
        raise UserError(str(path), "not a map of folders to names", CLASS_NAMES_REMEDY)
    names = {nfc(folder): nfc(name) for folder, name in names.items()}
    if absent := sorted(names.keys() - folders):
        raise UserError(str(path), f"names folders that are not there: {', '.join(absent)}",
                        f"there are: {listing(sorted(folders))}")
    return names


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _refuse_undecodable_names(folders: list[ClassFolder], where: str) -> None:
    for folder in folders:
        shown = os.fsencode(folder.name).decode("utf-8", "backslashreplace")
        if shown != folder.name:
            raise UserError(where, f"the name of the folder '{shown}' in {folder.path.parent} is "
                            "not UTF-8", "rename it")


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
    """Return the content of a folder in parentheses, for error messages."""
    with reading(folder):
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return f"(found: {listing(names or ['nothing'], SHOWN)})"


def listing(names: Sequence[str], most: int = 12) -> str:
    """Return names as a comma-separated list; beyond `most` it only says how many there are."""
    more = f" … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
