"""Shared parts of the pictures that kt_exp draws: colours, sizes, lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

Images = Mapping[str, Sequence[Image.Image]]
Colour = str

# The colours of a light and of a dark page; pictures are light.
LIGHT: Mapping[str, Colour] = {
    "paper": "#ffffff", "card": "#f7f8f9", "ink": "#1c2024", "soft": "#5b6570", "line": "#dfe3e7",
    "pale": "#aab4be", "good": "#1a7f42", "bad": "#b42318", "warn": "#8a5a00",
    "accent": "#2563a8", "vermilion": "#d55e00", "green": "#009e73", "purple": "#cc79a7",
    "orange": "#e69f00", "sky": "#56b4e9",
}
DARK: Mapping[str, Colour] = {
    "paper": "#14171a", "card": "#1c2024", "ink": "#e6e9ec", "soft": "#9aa5b0", "line": "#30363d",
    "pale": "#66717c", "good": "#5fc688", "bad": "#f2887e", "warn": "#e0b050",
    "accent": "#6ea8e8", "vermilion": "#f07b3f", "green": "#46cf9f", "purple": "#d98cba",
    "orange": "#f5c85c", "sky": "#bfe6ff",
}
PAPER, INK, SOFT, LINE = (LIGHT[name] for name in ("paper", "ink", "soft", "line"))
ACCENT, PALE = LIGHT["accent"], LIGHT["pale"]
SCALE = 2  # pictures are drawn at twice their size, for high-density screens
MARGIN, GAP = 24 * SCALE, 6 * SCALE
CELL = 64 * SCALE


def enlarge(image: Image.Image, side: int) -> Image.Image:
    """Return the image with its longer edge at `side`; enlarged images keep hard pixel edges."""
    longer = max(image.size)
    size = tuple(max(1, round(edge * side / longer)) for edge in image.size)
    method = Image.Resampling.NEAREST if longer < side else Image.Resampling.LANCZOS
    return image.convert("RGB").resize((size[0], size[1]), method)


class TextLine(NamedTuple):
    """A line of text; `size` is in points as shown, `height` in pixels as drawn."""

    text: str
    size: int
    colour: Colour

    @property
    def height(self) -> int:
        return round(1.35 * self.size * SCALE)


def text_lines(text: str, size: int, colour: Colour, width: int) -> list[TextLine]:
    """Wrap `text` to lines of `width` pixels; a longer word gets its own line."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font(size).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [TextLine(line, size, colour) for line in lines]


def write_lines(draw: ImageDraw.ImageDraw, lines: Sequence[TextLine], left: int, top: int) -> None:
    """Draw lines one below the other, from the upper left corner (`left`, `top`)."""
    for line in lines:
        draw.text((left, top), line.text, line.colour, font(line.size), anchor="la")
        top += line.height


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size * SCALE)
    assert isinstance(font, ImageFont.FreeTypeFont)  # given a size, Pillow returns no other
    return font
