"""Images as they are given in Python: folders, files and pictures in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from kt_exp.data.image_files import (
    IMAGE_SUFFIXES,
    ClassFolder,
    ImageFiles,
    class_folders,
    to_rgb,
)
from kt_exp.errors import UserError

Images = str | Path | Iterable[str | Path | Image.Image]  # a folder, or files and pictures


@dataclass(frozen=True)
class Pictures:
    """Labelled files and pictures in memory: an `ImageSet`; `paths` are what they are called."""

    images: Sequence[Path | Image.Image]
    paths: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.images)

    def open(self, index: int) -> Image.Image:
        image = self.images[index]
        if isinstance(image, Image.Image):
            return to_rgb(image)
        return ImageFiles(image.parent, [image], [0]).open(0)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(self.labels).encode())
        for image in self.images:
            if isinstance(image, Image.Image):
                digest.update(f"{image.mode} {image.size}".encode() + image.tobytes())
            else:
                digest.update(ImageFiles(image.parent, [image], [0]).fingerprint().encode())
        return digest.hexdigest()


def pictures(images: Images, label: int = 0) -> Pictures:
    """Return images as a set in which all have the label `label`.

    Raises:
        UserError: a folder does not exist or holds no images.
    """
    if isinstance(images, str | Path):
        files = images_in(Path(images).expanduser()).files
        return Pictures(files, [str(file) for file in files], [label] * len(files))
    found = [image if isinstance(image, Image.Image) else Path(image) for image in images]
    names = [getattr(image, "filename", "") or f"image {number}"
             if isinstance(image, Image.Image) else str(image)
             for number, image in enumerate(found)]
    return Pictures(found, names, [label] * len(found))


def by_name(images: Mapping[str, Images] | str | Path, where: str) -> Mapping[str, Images]:
    """Return the images of each name; those of a folder are in one sub-folder per name.

    Args:
        where: what the images are called in error messages.

    Raises:
        UserError: there is no such folder, or it has no sub-folders.
    """
    if isinstance(images, str | Path):
        return {folder.name: folder.path for folder in
                class_folders(Path(images).expanduser(), where)}
    return images


def labelled_pictures(images: Mapping[str, Images], names: Sequence[str]) -> Pictures:
    """Return the images of all names as one set; labels are indices into `names`.

    Raises:
        UserError: as `pictures`.
    """
    sets = [pictures(some, names.index(name)) for name, some in images.items()]
    return Pictures([image for one in sets for image in one.images],
                    [path for one in sets for path in one.paths],
                    [label for one in sets for label in one.labels])


def images_in(folder: Path) -> ImageFiles:
    """Return the images in a folder, at any depth, sorted.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(str(folder), "no such folder", "give a folder of images")
    files = ClassFolder("", folder).images()
    if not files:
        raise UserError(str(folder), "holds no images",
                        f"put some there ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return ImageFiles(folder, files, [0] * len(files))
