"""A matplotlib figure that can be saved, or embedded into a page."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup
from PIL import Image

from kt_exp.report.plots.svg import page_svg
from kt_exp.report.style import DPI, house_style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
# Without the time and matplotlib's version, the same figure gives the same file.
_METADATA = {
    ".png": {"Software": None}, ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass
class Chart:
    """A drawn figure.

    Attributes:
        label: a sentence that says what it shows, for screen readers.
        tips: tooltips of the marks in an SVG, by the `gid` of their artist.
    """

    figure: Figure
    label: str
    tips: dict[str, list[str]] = field(default_factory=dict)

    def tell(self, artist: Artist, tips: Iterable[str]) -> None:
        """Give the marks of `artist`, in order, the tooltips `tips`."""
        gid = f"tip{len(self.tips)}"
        artist.set_gid(gid)
        self.tips[gid] = list(tips)

    def svg(self, themed: bool = True) -> Markup:
        """Return an <svg> to embed into a page, in the page's colours if `themed`.

        Text stays text, in the reader's font. The output is deterministic.
        """
        buffer = io.StringIO()
        with house_style(), warnings.catch_warnings():
            # The reader's font may have a letter that matplotlib's own lacks.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            self.figure.savefig(buffer, format="svg", metadata=_METADATA[".svg"])
        return page_svg(buffer.getvalue(), self.label, self.tips, themed)

    def save(self, path: Path) -> None:
        """Write the figure in one of `FORMATS`, by the suffix of `path`; creates its folder."""
        ending = path.suffix.lower()
        path.parent.mkdir(parents=True, exist_ok=True)
        if ending == ".svg":
            path.write_text(f"{self.svg(themed=False)}\n", encoding="utf-8")
            return
        if ending == ".png":
            # With few colours and their shades, a palette reduces the file to a third.
            self.image().quantize(256, dither=Image.Dither.NONE).save(
                path, optimize=True, dpi=(DPI, DPI))
        else:
            path.write_bytes(self._drawn(ending))

    def image(self) -> Image.Image:
        """Return the figure as a picture, at `DPI`."""
        with Image.open(io.BytesIO(self._drawn(".png"))) as image:
            return image.convert("RGB")

    def _drawn(self, ending: str) -> bytes:
        buffer = io.BytesIO()
        with house_style():
            self.figure.savefig(buffer, format=ending[1:], dpi=DPI, metadata=_METADATA[ending])
        return buffer.getvalue()
