"""Folders of known classes whose images are not reported on."""

from __future__ import annotations

from collections.abc import Sequence

from kt_exp.concepts import name_key
from kt_exp.data.image_files import ImageFiles, class_folders, labelled, listing
from kt_exp.errors import UserError
from kt_exp.unicode import user_path

WHERE = "benchmark.calibration_root"


def read_known(root: str | None, names: Sequence[str]) -> ImageFiles | None:
    """Return the images under `root`, which has one sub-folder per class; None without a root.

    Args:
        names: the known classes, in label order. Some may have no folder.

    Raises:
        UserError: no such folder, a sub-folder that is no known class, or no image.
    """
    if root is None:
        return None
    path = user_path(root)
    folders = {name_key(folder.name): folder for folder in class_folders(path, WHERE)}
    if unknown := [folder.name for key, folder in folders.items()
                   if key not in {name_key(name) for name in names}]:
        raise UserError(WHERE, f"no known classes in {path}: {listing(unknown)}",
                        f"there are: {listing(names)}")
    files = [folders[name_key(name)].images() if name_key(name) in folders else []
             for name in names]
    if not any(files):
        raise UserError(WHERE, f"no images in {path}", "put .jpg or .png files there")
    return labelled(path, files)
