"""Pictures of a run: contact sheets, and an overview."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from kt_exp.drawing import (
    ACCENT,
    CELL,
    GAP,
    INK,
    LINE,
    MARGIN,
    PALE,
    PAPER,
    SCALE,
    SOFT,
    Colour,
    Images,
    enlarge,
    font,
    text_lines,
    write_lines,
)
from kt_exp.results import summary
from kt_exp.results.record import RunRecord

# The noise in inverted images does not compress further at higher levels.
_COMPRESSION = 1


def contact_sheet(rows: Images, path: Path) -> Path:
    """Write a PNG with one labelled row of images per concept; return its path.

    Raises:
        ValueError: there are no images.
    """
    longest = max((len(images) for images in rows.values()), default=0)
    if not longest:
        raise ValueError("a contact sheet needs at least one image")
    label_width = 140 * SCALE
    width = 2 * MARGIN + label_width + longest * (CELL + GAP) - GAP
    height = 2 * MARGIN + len(rows) * (CELL + GAP) - GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(rows.items()):
        top = MARGIN + row * (CELL + GAP)
        label = text_lines(name, 13, INK, label_width - GAP)
        write_lines(draw, label, MARGIN, top + (CELL - sum(line.height for line in label)) // 2)
        _strip(sheet, images, MARGIN + label_width, top)
    sheet.save(path, compress_level=_COMPRESSION)
    return path


def overview(record: RunRecord, inverted: Images, targets: Images, path: Path,
             shown: int = 4) -> Path:
    """Write the overview of a run as a PNG; return its path.

    Each concept has its name and description, `shown` inverted and as many real images, and the
    metric of its images (`summary.target_metric`) before and after as bars. A column without
    images is left out.
    """
    metric = summary.target_metric(record) or "accuracy"
    text_width, bars_width = 190 * SCALE, 190 * SCALE
    strip_width = shown * (CELL + GAP) - GAP
    strips = [(title, images) for title, images in (
        ("Inverted from the description", inverted), ("Real images, unseen", targets)) if images]
    columns = [MARGIN, MARGIN + text_width + MARGIN]
    for _ in strips:
        columns.append(columns[-1] + strip_width + MARGIN)
    rows = summary.concept_rows(record, metric)
    texts = [
        [*text_lines(row.name, 15, INK, text_width),
         *text_lines(concept.description, 12, SOFT, text_width)]
        for row, concept in zip(rows, record.concepts, strict=True)
    ]
    heights = [max(CELL, sum(line.height for line in text)) + 20 * SCALE for text in texts]
    top = MARGIN + 26 * SCALE
    canvas = Image.new("RGB", (columns[-1] + bars_width + MARGIN, top + sum(heights)), PAPER)
    draw = ImageDraw.Draw(canvas)
    titles = ["Concept and description", *(title for title, _ in strips),
              f"{'Recognised' if metric == 'accuracy' else metric}: before, after"]
    for left, title in zip(columns, titles, strict=True):
        draw.text((left, MARGIN), title, SOFT, font(12), anchor="ls")
    for row, text, height in zip(rows, texts, heights, strict=True):
        rule = top - 10 * SCALE
        draw.line((MARGIN, rule, canvas.width - MARGIN, rule), LINE, SCALE // 2)
        write_lines(draw, text, columns[0], top)
        for left, (_, images) in zip(columns[1:], strips, strict=False):
            _strip(canvas, images.get(row.name, ())[:shown], left, top)
        _bar(draw, row.target_before, (columns[-1], top + 12 * SCALE), bars_width, PALE)
        _bar(draw, row.target_after, (columns[-1], top + 36 * SCALE), bars_width, ACCENT)
        top += height
    canvas.save(path, compress_level=_COMPRESSION)
    return path


def _strip(canvas: Image.Image, images: Sequence[Image.Image], left: int, top: int) -> None:
    for column, image in enumerate(images):
        cell = enlarge(image, CELL)
        canvas.paste(cell, (left + column * (CELL + GAP) + (CELL - cell.width) // 2,
                            top + (CELL - cell.height) // 2))


def _bar(draw: ImageDraw.ImageDraw, accuracy: summary.Accuracy | None, at: tuple[int, int],
         width: int, colour: Colour) -> None:
    left, top = at
    bar_width, height = width - 88 * SCALE, 14 * SCALE
    draw.rectangle((left, top, left + bar_width, top + height), fill="#f1f3f5")
    middle = top + height // 2
    label = "not measured"
    if accuracy is not None:
        label = f"{100 * accuracy.value:.0f}%"
        share = min(1.0, accuracy.value)
        draw.rectangle((left, top, left + max(SCALE, round(bar_width * share)), top + height),
                       fill=colour)
        draw.text((left + width, middle), accuracy.counts, SOFT, font(12), anchor="rm")
    draw.text((left + bar_width + GAP, middle), label, INK, font(12), anchor="lm")
