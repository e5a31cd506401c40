"""Image–mask pairs on disk: `images/` and `masks/`, with the same names up to the suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from kt_exp.benchmarks.segmentation.postprocess import Mask
from kt_exp.concepts import Concept, folder_name, name_key
from kt_exp.data.image_files import (
    ClassFolder,
    ImageFiles,
    decoded,
    found_in,
    labelled,
    listing,
    reading,
)
from kt_exp.errors import UserError

IMAGES, MASKS = "images", "masks"
WHERE = "benchmark.root"
LAYOUT = "put images/ and masks/ there, with the same file names but for the ending"
SHOWN = 4


@dataclass(frozen=True)
class MaskedImages:
    """Images with one mask each; a mask's foreground is what lies above `threshold` (0–254)."""

    root: Path
    images: list[Path]
    masks: list[Path]
    threshold: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> MaskedImages:
        return MaskedImages(self.root, self.images[index], self.masks[index], self.threshold)

    def take(self, indices: Sequence[int]) -> MaskedImages:
        """Return the pairs at `indices`."""
        return MaskedImages(self.root, [self.images[i] for i in indices],
                            [self.masks[i] for i in indices], self.threshold)

    def name(self, index: int) -> str:
        """Return the path of image `index`, relative to the root of the set."""
        return self.images[index].relative_to(self.root).as_posix()

    def open(self, index: int) -> Image.Image:
        """Return image `index` in RGB.

        Raises:
            UserError: the file cannot be read as an image; the error names its path.
        """
        return self.image_files.open(index)

    def mask(self, index: int) -> Mask:
        """Return mask `index`, `(H, W)`.

        Raises:
            UserError: the file cannot be read as an image; the error names its path.
        """
        # Clipped, not scaled: the foreground of a 16-bit mask may be 255 or 65535.
        grey = decoded(self.masks[index], lambda image: image.convert("L"))
        return np.asarray(grey) > self.threshold

    @cached_property
    def image_files(self) -> ImageFiles:
        """The images alone."""
        return labelled(self.root, [self.images])

    @cached_property
    def _mask_files(self) -> ImageFiles:
        return labelled(self.root, [self.masks])

    def fingerprint(self) -> str:
        """Return a hash that changes when an image, a mask or the threshold changes."""
        return f"{self.image_files.fingerprint()}-{self._mask_files.fingerprint()}-{self.threshold}"


def concept_folder(root: Path, concept: Concept) -> Path:
    """Return the folder of a concept's pairs: `root`, or its sub-folder with the concept's name.

    The name is that of the concept's `images_of`, if it has one.

    Raises:
        UserError: neither holds `images/` and `masks/`.
    """
    if not root.is_dir():
        raise UserError(WHERE, f"no such folder: {root}", LAYOUT)
    if _holds_pairs(root):
        return root
    slug = folder_name(concept.image_class)
    names = {name_key(concept.image_class), name_key(slug)}
    with reading(root):
        folders = sorted(path for path in root.iterdir() if path.is_dir())
    for folder in folders:
        if name_key(folder.name) in names and _holds_pairs(folder):
            return folder
    found = listing([folder.name for folder in folders]) or "no folder"
    raise UserError(WHERE, f"{root} has neither images/ and masks/ nor a folder "
                    f"'{slug}' with them (found: {found})", LAYOUT)


def read_pairs(root: Path, threshold: int, limit: int = 0) -> MaskedImages:
    """Return the first `limit` pairs in `root`, sorted by name; all if `limit` is 0.

    Raises:
        UserError: no images, an image without a mask or a mask without an image, or two files of
            one name; the error names the files.
    """
    images, masks = _by_name(root / IMAGES), _by_name(root / MASKS)
    if not images:
        raise UserError(WHERE, f"no images in {root / IMAGES} {found_in(root / IMAGES)}", LAYOUT)
    problems = []
    if lone := sorted(images.keys() - masks.keys()):
        problems.append(f"no mask of {_files(images[name] for name in lone)}")
    if lone := sorted(masks.keys() - images.keys()):
        problems.append(f"no image of {_files(masks[name] for name in lone)}")
    if problems:
        raise UserError(str(root), ", and ".join(problems),
                        "give each image a mask of the same name, or take the files out")
    names = sorted(images)[: limit or None]
    return MaskedImages(root, [images[name] for name in names], [masks[name] for name in names],
                        threshold)


def readable(pairs: MaskedImages, on_bad_image: str,
             advance: Callable[[], None]) -> tuple[list[int], list[str]]:
    """Return the indices of the readable pairs, and the paths of unreadable files.

    Raises:
        UserError: a mask is empty or not of its image's size; under `on_bad_image: error`, a file
            is unreadable. The error names the files.
    """
    good, skipped = [], []
    empty, resized = [], []
    for index in range(len(pairs)):
        try:
            mask, size = pairs.mask(index), pairs.open(index).size
        except UserError as error:
            if on_bad_image == "error":
                raise
            skipped.append(error.where)
        else:
            good.append(index)
            if mask.shape != size[::-1]:
                resized.append(pairs.masks[index])
            elif not mask.any():
                empty.append(pairs.masks[index])
        advance()
    if resized:
        raise UserError(str(pairs.root), f"another size than its image: {_files(resized)}",
                        "give masks of the images' own size")
    if empty:
        raise UserError(str(pairs.root), f"no pixel above {pairs.threshold}: {_files(empty)}",
                        "take out images without a finding, or lower benchmark.mask_threshold")
    if not good:
        raise UserError(str(pairs.root), "not one readable pair", "replace the files")
    return good, skipped


def _holds_pairs(folder: Path) -> bool:
    return (folder / IMAGES).is_dir() and (folder / MASKS).is_dir()


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in ClassFolder(folder.name, folder).images():
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise UserError(str(folder), f"{found[name].name} and {path.name} have the same name",
                            "keep one of them")
        found[name] = path
    return found


def _files(paths: Iterable[Path]) -> str:
    return listing([f"{path.parent.name}/{path.name}" for path in paths], SHOWN)
