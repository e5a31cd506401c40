"""Pictures of segmentations: a row for each image, with its saliency maps and masks.

As supplementary Fig. 4 and 5: the image, the true mask, and saliency and mask before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw
from scipy import ndimage
from torch import Tensor

from kt_exp.benchmarks.segmentation.heat import heat
from kt_exp.benchmarks.segmentation.maps import map_at, mask_at
from kt_exp.benchmarks.segmentation.masks import MaskedImages
from kt_exp.benchmarks.segmentation.postprocess import Mask
from kt_exp.concepts import Concept
from kt_exp.drawing import GAP, INK, MARGIN, PAPER, SCALE, SOFT, TextLine, enlarge, write_lines
from kt_exp.results.outcome import ImageScore, Phase
from kt_exp.store import Store

MOST = 10
CELL, LINE = 140 * SCALE, 22 * SCALE
BAR = 110 * SCALE, 12 * SCALE
TRUTH, FOUND = (40, 210, 90), (255, 140, 0)
COLUMNS = ("Image", "Ground truth", "Saliency before", "Saliency after", "Mask before",
           "Mask after")
LEGEND = ("Saliency in nats, from the least to the greatest of an image's two maps. "
          "Green: the true contour; orange: the mask.")
BEFORE, AFTER = Phase.baseline.value, Phase.transferred.value


@dataclass(frozen=True)
class Segmented:
    """Images, and for each phase the keys of the store entries with their masks and maps."""

    images: MaskedImages
    masks: dict[str, list[str]]
    maps: dict[str, list[str]]


class Change(NamedTuple):
    """The DSC of the image at `position` of its set, before and after."""

    position: int
    before: float
    after: float


class Cell(NamedTuple):
    """A picture of a row, and the text below it."""

    picture: Image.Image
    text: str


def draw_panels(concept: Concept, segmented: Segmented, scores: Sequence[ImageScore],
                store: Store, folder: Path) -> dict[str, str]:
    """Draw the ten images that gained most in DSC, and the ten that gained least, as PNGs.

    Fewer than twenty images are split into halves. Returns title → file name in `folder`; empty if
    a phase, or its masks or maps in the store, are missing.
    """
    if not segmented.masks.keys() >= {BEFORE, AFTER}:
        return {}
    changes = _by_gain(concept.name, segmented.images, scores)
    middle = (len(changes) + 1) // 2
    drawn = {}
    for which, shown in (("best", changes[:middle][:MOST]),
                         ("worst", changes[middle:][::-1][:MOST])):
        rows = [_row(segmented, change, store) for change in shown]
        whole = [row for row in rows if row]
        if whole and len(whole) == len(rows):
            name = f"segmentation-{concept.slug}-{which}.png"
            _sheet(whole).save(folder / name)
            drawn[f"{concept.name}: {which} changes in DSC"] = name
    return drawn


def _by_gain(concept: str, images: MaskedImages, scores: Sequence[ImageScore]) -> list[Change]:
    """Return the change of each image, the highest gain first."""
    dice = {(str(score.phase), score.image): score.value for score in scores
            if score.concept == concept and score.metric == "DSC"}
    changes = [Change(index, dice[BEFORE, name], dice[AFTER, name])
               for index, name in enumerate(map(images.name, range(len(images))))]
    return sorted(changes, key=lambda change: change.before - change.after)


def _row(segmented: Segmented, change: Change, store: Store) -> list[Cell] | None:
    """Return the cells of one image, one for each of `COLUMNS`; None if the store lost one."""
    masks = [mask_at(store, segmented.masks[phase], change.position) for phase in (BEFORE, AFTER)]
    maps = [map_at(store, segmented.maps[phase], change.position) for phase in (BEFORE, AFTER)]
    found = [mask for mask in masks if mask is not None]
    grids = [grid for grid in maps if grid is not None]
    if len(found) < 2 or len(grids) < 2:
        return None
    image = enlarge(segmented.images.open(change.position), CELL)
    truth = segmented.images.mask(change.position)
    low, high = (float(end) for end in (min(grid.min() for grid in grids),
                                        max(grid.max() for grid in grids)))
    return [
        Cell(image, ""),
        Cell(_outlined(image, truth), ""),
        *(Cell(_outlined(_heat_map(grid, image.size, low, high), truth),
               f"{float(grid.min()):.3g} to {float(grid.max()):.3g}") for grid in grids),
        *(Cell(_outlined(_tinted(image, mask), truth), f"DSC {dice:.2f}")
          for mask, dice in zip(found, (change.before, change.after), strict=True)),
    ]


def _heat_map(grid: Tensor, size: tuple[int, int], low: float, high: float) -> Image.Image:
    """Return a map `(G, G)` as a picture of `size`, bilinear, with colours from low to high."""
    width, height = size
    values = F.interpolate(grid[None, None].float(), size=(height, width), mode="bilinear")
    return Image.fromarray(heat(values[0, 0].numpy(), low, high))


def _outlined(picture: Image.Image, truth: Mask) -> Image.Image:
    """Return the picture with the true contour."""
    pixels, shape = np.array(picture), _at_size(truth, picture.size)
    pixels[ndimage.binary_dilation(shape, iterations=2) & ~shape] = TRUTH
    return Image.fromarray(pixels)


def _tinted(image: Image.Image, mask: Mask) -> Image.Image:
    """Return the image with the predicted mask in colour."""
    pixels, inside = np.array(image), _at_size(mask, image.size)
    pixels[inside] = (0.5 * pixels[inside] + 0.5 * np.array(FOUND)).astype(np.uint8)
    return Image.fromarray(pixels)


def _at_size(mask: Mask, size: tuple[int, int]) -> Mask:
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def _sheet(rows: Sequence[Sequence[Cell]]) -> Image.Image:
    """Draw the legend, the titles of the columns, and the rows below each other."""
    heights = [max(cell.picture.height for cell in row) + LINE + GAP for row in rows]
    sheet = Image.new("RGB", (2 * MARGIN + len(COLUMNS) * (CELL + GAP) - GAP,
                              2 * MARGIN + 2 * LINE + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    ramp = np.linspace(0, 1, BAR[0])[None].repeat(BAR[1], axis=0)
    sheet.paste(Image.fromarray(heat(ramp, 0, 1)), (MARGIN, MARGIN + 2 * SCALE))
    write_lines(draw, [TextLine(LEGEND, 12, SOFT)], MARGIN + BAR[0] + GAP, MARGIN)
    for column, title in enumerate(COLUMNS):
        write_lines(draw, [TextLine(title, 13, INK)], _left(column), MARGIN + LINE)
    top = MARGIN + 2 * LINE
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell.picture, (_left(column), top))
            below = top + cell.picture.height + GAP // 2
            write_lines(draw, [TextLine(cell.text, 12, SOFT)], _left(column), below)
        top += height
    return sheet


def _left(column: int) -> int:
    return MARGIN + column * (CELL + GAP)
