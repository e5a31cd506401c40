"""Folders of real images of the new concepts, one sub-folder per concept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from kt_exp.concepts import Concept, folder_name, name_key
from kt_exp.data.image_files import (
    ClassFolder,
    ImageFiles,
    class_folders,
    found_in,
    labelled,
    listing,
)
from kt_exp.errors import UserError

WHERE = "benchmark.target_root"


def read_target(root: Path, concept: Concept, where: str = WHERE) -> ImageFiles:
    """Return the images in the sub-folder of `root` that belongs to `concept`, all labelled 0.

    Its name, or that in `classnames.json`, is the concept's image class or the slug of it, ignoring
    case, spaces, underscores and hyphens.

    Raises:
        UserError: the root or the sub-folder does not exist, or there are no images in it.
    """
    folder = _find(root, concept, where)
    if not folder.has_images:
        raise UserError(where, f"no images of '{concept.image_class}' in {folder.path} "
                        f"{found_in(folder.path)}", "put .jpg or .png files there")
    return labelled(root, [folder.images()])


def check_targets(root: Path, concepts: Iterable[Concept]) -> None:
    """Raise `UserError` for the first concept without images in `root`."""
    for concept in concepts:
        read_target(root, concept)


def refuse_known(concepts: Iterable[Concept], known: Sequence[str], remedy: str) -> None:
    """Check that no concept, nor its `images_of`, is a known class with the same images.

    Raises:
        UserError: one is.
    """
    spelled = {name_key(name): name for name in known}
    for concept in concepts:
        if same := spelled.get(name_key(concept.name)):
            raise UserError("concepts", f"'{concept.name}' is also a known class ('{same}')",
                            remedy)
        if same := spelled.get(name_key(concept.image_class)):
            raise UserError("concepts", f"'{concept.name}' has the images of '{same}', which is a "
                            "known class", remedy)


def _find(root: Path, concept: Concept, where: str) -> ClassFolder:
    folders = class_folders(root, where)
    name = concept.image_class
    names = {name_key(name), name_key(folder_name(name))}
    for folder in folders:
        if names & {name_key(folder.name), name_key(folder.path.name)}:
            return folder
    there = listing([folder.path.name for folder in folders])
    raise UserError(where, f"no images of '{name}': {root} has no folder "
                    f"'{folder_name(name)}'", f"there are: {there}")
