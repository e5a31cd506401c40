"""Pictures of captions: image, reference, and the model's captions before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from kt_exp.concepts import Concept
from kt_exp.data.captioned import CaptionedImages
from kt_exp.drawing import (
    ACCENT,
    INK,
    LINE,
    MARGIN,
    PAPER,
    SCALE,
    SOFT,
    TextLine,
    enlarge,
    text_lines,
    write_lines,
)
from kt_exp.results.outcome import ImageScore, Outcome, Phase

MOST = 10
CELL, TEXT, SPACE = 128 * SCALE, 480 * SCALE, 24 * SCALE


class Change(NamedTuple):
    """The scored captions of one image before and after."""

    before: ImageScore
    after: ImageScore

    @property
    def gain(self) -> float:
        """Change in METEOR."""
        return self.after.value - self.before.value


def draw_panels(images: CaptionedImages, outcomes: Sequence[Outcome],
                folder: Path) -> dict[str, str]:
    """Draw the ten captions that gained most in METEOR, and the ten that lost most, as PNGs.

    Supplementary Tab. 7 shows the best ones. Returns title → file name in `folder`. A picture
    without captions to show is not drawn; nor is a concept without both phases.
    """
    drawn = {}
    for concept, changes in _changes(outcomes).items():
        stem = f"captions-{Concept(concept, '').slug}"
        ordered = sorted(changes, key=lambda change: change.gain)
        chosen = {"best": [change for change in ordered[::-1] if change.gain > 0],
                  "worst": [change for change in ordered if change.gain < 0]}
        for which, shown in chosen.items():
            if shown:
                name = f"{stem}-{which}.png"
                _sheet(images, shown[:MOST]).save(folder / name)
                drawn[f"{concept}: {which} changes in METEOR"] = name
    return drawn


def _changes(outcomes: Sequence[Outcome]) -> dict[str, list[Change]]:
    """Return the change of each image, by concept."""
    scores = [score for outcome in outcomes for score in outcome.per_image]
    before = {(score.concept, score.image): score for score in scores
              if score.phase == Phase.baseline.value}
    changes: dict[str, list[Change]] = {}
    for after in scores:
        if after.phase == Phase.transferred.value:
            change = Change(before[after.concept, after.image], after)
            changes.setdefault(after.concept, []).append(change)
    return changes


def _sheet(images: CaptionedImages, changes: Sequence[Change]) -> Image.Image:
    index = {name: position for position, name in enumerate(images.names)}
    texts = [_text(images.captions[index[change.after.image]][0], change) for change in changes]
    heights = [max(CELL, sum(line.height for line in text)) + SPACE for text in texts]
    sheet = Image.new("RGB", (3 * MARGIN + CELL + TEXT, 2 * MARGIN + sum(heights) - SPACE), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for change, text, height in zip(changes, texts, heights, strict=True):
        if top > MARGIN:
            rule = top - SPACE // 2
            draw.line((MARGIN, rule, sheet.width - MARGIN, rule), LINE, SCALE // 2)
        image = enlarge(images.open(index[change.after.image]), CELL)
        sheet.paste(image, (MARGIN + (CELL - image.width) // 2, top))
        write_lines(draw, text, 2 * MARGIN + CELL, top)
        top += height
    return sheet


def _text(truth: str, change: Change) -> list[TextLine]:
    before, after = change
    gap = TextLine("", 4, SOFT)
    return [
        *_titled("Reference", truth, INK), gap,
        *_titled(f"Before: METEOR {before.value:.2f}", before.text or "", INK), gap,
        *_titled(f"After: METEOR {after.value:.2f} ({change.gain:+.2f})", after.text or "", ACCENT),
    ]


def _titled(title: str, text: str, colour: str) -> list[TextLine]:
    return [TextLine(title, 11, SOFT), *text_lines(text, 14, colour, TEXT)]
