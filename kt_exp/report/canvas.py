"""Lines, dots and words that become an SVG or a PNG: what the plots are drawn on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from kt_exp.drawing import ACCENT, INK, LINE, PAPER, SCALE, SOFT

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]

OVERSAMPLED = 2  # Pillow's lines have hard edges: drawn larger, then reduced
DASH, DASH_GAP = 6.0, 4.0
HALO = 1.5  # px around text
# For a page with a light and a dark scheme: its own colours in place of the file's.
THEMED = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", PAPER: "var(--paper)",
          ACCENT: "var(--accent)"}


@dataclass(frozen=True)
class _Stroke:
    points: Sequence[Point]
    colour: str
    width: float
    dashed: bool


@dataclass(frozen=True)
class _Dot:
    at: Point
    colour: str
    title: str
    hollow: bool


@dataclass(frozen=True)
class _Words:
    at: Point
    text: str
    colour: str
    size: int
    anchor: Anchor
    halo: bool


@dataclass
class Canvas:
    """A picture of `width` × `height` pixels, the origin at its upper left."""

    width: float
    height: float
    label: str  # what it shows, in a sentence, for those who cannot see it
    items: list[_Stroke | _Dot | _Words] = field(default_factory=list)

    def line(self, points: Sequence[Point], colour: str, width: float = 1.0,
             dashed: bool = False) -> None:
        """Draw straight lines from point to point."""
        if len(points) > 1:
            self.items.append(_Stroke(points, colour, width, dashed))

    def dot(self, at: Point, colour: str, title: str = "", hollow: bool = False) -> None:
        """Draw a dot; the SVG shows `title` when it is pointed at."""
        self.items.append(_Dot(at, colour, title, hollow))

    def words(self, at: Point, text: str, colour: str = SOFT, size: int = 12,
              anchor: Anchor = "start", halo: bool = False) -> None:
        """Write one line of text on the base line at `at`; a halo keeps it apart from lines."""
        self.items.append(_Words(at, text, colour, size, anchor, halo))

    def to_svg(self, colours: Mapping[str, str] | None = None) -> Markup:
        """Return an <svg>; `colours` (such as `THEMED`) replaces some by others."""
        paint = {**(colours or {})}.get
        parts = [Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:g} {1:g}" width="{0:g}" '
            'height="{1:g}" role="img" aria-label="{2}" font-family="system-ui, sans-serif">'
            '<rect width="100%" height="100%" fill="{3}"/>'
        ).format(self.width, self.height, self.label, paint(PAPER, PAPER))]
        for item in self.items:
            colour = paint(item.colour, item.colour)
            if isinstance(item, _Stroke):
                dash = f"{DASH:g} {DASH_GAP:g}" if item.dashed else "none"
                parts.append(Markup('<polyline fill="none" stroke="{}" stroke-width="{:g}" '
                                    'stroke-dasharray="{}" points="{}"/>').format(
                    colour, item.width, dash, " ".join("{:.1f},{:.1f}".format(*point)
                                                       for point in item.points)))
            elif isinstance(item, _Dot):
                parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5" fill="{}" '
                                    'stroke="{}" stroke-width="1.5"><title>{}</title></circle>'
                                    ).format(*item.at,
                                             paint(PAPER, PAPER) if item.hollow else colour,
                                             colour, item.title))
            else:
                halo = Markup(' stroke="{}" stroke-width="{:g}" paint-order="stroke"').format(
                    paint(PAPER, PAPER), 2 * HALO) if item.halo else ""
                parts.append(Markup('<text x="{:.1f}" y="{:.1f}" fill="{}" font-size="{}" '
                                    'text-anchor="{}"{}>{}</text>').format(
                    *item.at, colour, item.size, item.anchor, halo, item.text))
        return Markup("\n").join([*parts, Markup("</svg>\n")])

    def save_png(self, path: Path) -> None:
        """Write the picture at twice its size, for dense screens."""
        scale = SCALE * OVERSAMPLED
        image = Image.new("RGB", (round(self.width * scale), round(self.height * scale)), PAPER)
        draw = ImageDraw.Draw(image)
        for item in self.items:
            if isinstance(item, _Stroke):
                for piece in _dashes(item.points) if item.dashed else [item.points]:
                    draw.line([(x * scale, y * scale) for x, y in piece], item.colour,
                              round(item.width * scale), joint="curve")
            elif isinstance(item, _Dot):
                x, y = item.at[0] * scale, item.at[1] * scale
                draw.circle((x, y), 3.5 * scale, PAPER if item.hollow else item.colour,
                            item.colour, round(1.5 * scale))
            else:
                draw.text((item.at[0] * scale, item.at[1] * scale), item.text, item.colour,
                          _font(item.size * scale),
                          anchor={"start": "ls", "middle": "ms", "end": "rs"}[item.anchor],
                          stroke_width=round(HALO * scale) if item.halo else 0, stroke_fill=PAPER)
        reduced = image.resize((round(self.width * SCALE), round(self.height * SCALE)),
                               Image.Resampling.LANCZOS)
        # Few colours and their shades: a palette makes the file a third of the size.
        reduced.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _dashes(points: Sequence[Point]) -> list[list[Point]]:
    """Return the dashes along the lines from point to point, each as two points."""
    pieces = []
    for (x0, y0), (x1, y1) in pairwise(points):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        start = 0.0
        while start < length:
            ends = [share / length for share in (start, min(start + DASH, length))]
            pieces.append([(x0 + end * (x1 - x0), y0 + end * (y1 - y0)) for end in ends])
            start += DASH + DASH_GAP
    return pieces
