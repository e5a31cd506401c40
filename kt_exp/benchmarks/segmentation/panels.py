"""Pictures of segmentations: the image with the true contour, and masks before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from kt_exp.benchmarks.segmentation.maps import mask_at
from kt_exp.benchmarks.segmentation.masks import MaskedImages
from kt_exp.benchmarks.segmentation.postprocess import Mask
from kt_exp.concepts import Concept
from kt_exp.drawing import GAP, INK, MARGIN, PAPER, SCALE, SOFT, TextLine, enlarge, write_lines
from kt_exp.results.outcome import ImageScore, Phase
from kt_exp.store import Store

MOST, ABREAST = 10, 5
CELL, LABEL, LINE = 150 * SCALE, 60 * SCALE, 22 * SCALE
TRUTH, FOUND = (40, 210, 90), (255, 140, 0)
ROWS = ("Truth", "Before", "After")
BEFORE, AFTER = Phase.baseline.value, Phase.transferred.value


@dataclass(frozen=True)
class Segmented:
    """Images, and for each phase the keys of the store entries with their masks."""

    images: MaskedImages
    masks: dict[str, list[str]]


class Change(NamedTuple):
    """The DSC of the image at `position` of its set, before and after."""

    position: int
    before: float
    after: float


def draw_panels(concept: Concept, segmented: Segmented, scores: Sequence[ImageScore],
                store: Store, folder: Path) -> dict[str, str]:
    """Draw the ten images that gained most in DSC, and the ten that gained least, as PNGs.

    Fewer than twenty images are split into halves. Returns title → file name in `folder`; empty if
    a phase, or its masks in the store, are missing.
    """
    if not segmented.masks.keys() >= {BEFORE, AFTER}:
        return {}
    changes = _by_gain(concept.name, segmented.images, scores)
    middle = (len(changes) + 1) // 2
    drawn = {}
    for which, shown in (("best", changes[:middle][:MOST]),
                         ("worst", changes[middle:][::-1][:MOST])):
        columns = [_column(segmented, change, store) for change in shown]
        whole = [column for column in columns if column]
        if whole and len(whole) == len(columns):
            name = f"segmentation-{concept.slug}-{which}.png"
            _sheet(whole, shown).save(folder / name)
            drawn[f"{concept.name}: {which} changes in DSC"] = name
    return drawn


def _by_gain(concept: str, images: MaskedImages, scores: Sequence[ImageScore]) -> list[Change]:
    """Return the change of each image, the highest gain first."""
    dice = {(str(score.phase), score.image): score.value for score in scores
            if score.concept == concept and score.metric == "DSC"}
    changes = [Change(index, dice[BEFORE, name], dice[AFTER, name])
               for index, name in enumerate(map(images.name, range(len(images))))]
    return sorted(changes, key=lambda change: change.before - change.after)


def _column(segmented: Segmented, change: Change, store: Store) -> list[Image.Image] | None:
    """Return the cells of one image, top to bottom; None if the store lost a mask."""
    before, after = (mask_at(store, segmented.masks[phase], change.position)
                     for phase in (BEFORE, AFTER))
    if before is None or after is None:
        return None
    image = enlarge(segmented.images.open(change.position), CELL)
    truth = segmented.images.mask(change.position)
    return [_draw(image, truth), *(_draw(image, truth, found) for found in (before, after))]


def _draw(image: Image.Image, truth: Mask, found: Mask | None = None) -> Image.Image:
    """Return the image with the true contour, and the predicted mask `found` tinted."""
    pixels = np.asarray(image).astype(np.float32)
    if found is not None:
        inside = _at_size(found, image.size)
        pixels[inside] = 0.5 * pixels[inside] + 0.5 * np.array(FOUND)
    shape = _at_size(truth, image.size)
    pixels[ndimage.binary_dilation(shape, iterations=2) & ~shape] = TRUTH
    return Image.fromarray(pixels.astype(np.uint8))


def _at_size(mask: Mask, size: tuple[int, int]) -> Mask:
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def _sheet(columns: Sequence[Sequence[Image.Image]], changes: Sequence[Change]) -> Image.Image:
    blocks = [columns[at : at + ABREAST] for at in range(0, len(columns), ABREAST)]
    block_height = len(ROWS) * (CELL + GAP) + 2 * LINE + MARGIN
    sheet = Image.new("RGB", (2 * MARGIN + LABEL + len(blocks[0]) * (CELL + GAP) - GAP,
                              MARGIN + len(blocks) * block_height), PAPER)
    for number, block in enumerate(blocks):
        own = changes[number * ABREAST :][: len(block)]
        _block(sheet, block, own, MARGIN + number * block_height)
    return sheet


def _block(sheet: Image.Image, columns: Sequence[Sequence[Image.Image]],
           changes: Sequence[Change], top: int) -> None:
    """Draw a column of truth, before and after for each image, side by side."""
    draw = ImageDraw.Draw(sheet)
    for row, title in enumerate(ROWS):
        write_lines(draw, [TextLine(title, 13, INK)], MARGIN, top)
        for number, (column, change) in enumerate(zip(columns, changes, strict=True)):
            cell, left = column[row], MARGIN + LABEL + number * (CELL + GAP)
            sheet.paste(cell, (left, top))
            if row:
                dice = f"DSC {(change.before, change.after)[row - 1]:.2f}"
                write_lines(draw, [TextLine(dice, 12, SOFT)], left, top + cell.height + GAP // 2)
        top += max(column[row].height for column in columns) + GAP + (LINE if row else 0)
