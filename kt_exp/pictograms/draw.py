"""Rasterise pictograms: shapes as polygons, textures as index maps, backgrounds.

Everything is drawn ``SUPERSAMPLE`` times too large and averaged down, which antialiases
edges and textures alike. Coordinates of shapes are natural units: a shape is centred on the
origin and its longer side is 1, y pointing down as in images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

IMAGE_SIZE = 64
SUPERSAMPLE = 3
CANVAS = IMAGE_SIZE * SUPERSAMPLE

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (245, 215, 50),
    "green": (50, 150, 65),
    "turquoise": (60, 200, 195),
    "blue": (45, 85, 200),
    "purple": (130, 60, 165),
    "pink": (245, 150, 190),
    "brown": (130, 80, 45),
    "black": (25, 25, 30),
    "grey": (140, 142, 148),
    "white": (246, 246, 242),
}

# Width and height of each shape in natural units.
SHAPE_EXTENTS: dict[str, tuple[float, float]] = {
    "circle": (1.0, 1.0),
    "ring": (1.0, 1.0),
    "square": (0.9, 0.9),
    "frame": (0.95, 0.95),
    "wide bar": (1.0, 0.34),
    "tall bar": (0.34, 1.0),
    "triangle": (1.0, 0.85),
    "funnel": (1.0, 0.85),
    "half circle": (1.0, 0.5),
    "bowl": (1.0, 0.5),
    "diamond": (0.8, 1.0),
    "cross": (1.0, 1.0),
    "star": (1.0, 1.0),
    "arch": (0.9, 1.0),
    "oval": (1.0, 0.58),
    "heart": (1.0, 0.95),
    "crescent": (0.8, 1.0),
    "hexagon": (1.0, 0.87),
    "flower": (1.0, 1.0),
    "pen": (0.16, 1.0),
}

TEXTURES: tuple[str, ...] = (
    "plain",
    "vertically striped",
    "horizontally striped",
    "diagonally striped",
    "dotted",
    "checkered",
    "brick",
    "plaid",
    "mesh",
    "zigzag",
)

Polygon = np.ndarray  # (N, 2) points
Outline = tuple[Polygon, Polygon | None]  # outer border and hole


def _arc(radius: float, start: float, stop: float, count: int = 36) -> np.ndarray:
    angles = np.linspace(math.radians(start), math.radians(stop), count)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _spikes(outer: float, inner: float, count: int) -> np.ndarray:
    angles = np.arange(2 * count) * math.pi / count - math.pi / 2
    radii = np.where(np.arange(2 * count) % 2 == 0, outer, inner)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _box(width: float, height: float) -> np.ndarray:
    return np.array([(-width, -height), (width, -height), (width, height), (-width, height)]) / 2


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 40)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x / 32, (y - 2.5) / 31], axis=1)


def _flower() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 80)
    radius = 0.34 + 0.16 * np.cos(5 * t + math.pi / 2)
    return radius[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1)


def _cross() -> np.ndarray:
    a, b = 0.5, 0.16
    points = [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b)]
    return np.array(points + [(-x, -y) for x, y in points])


def _crescent() -> np.ndarray:
    back = _arc(0.5, 50, 310)
    front = _arc(0.42, 295, 65)[:, :] + np.array([0.16, 0.0])
    return np.concatenate([back, front]) + np.array([0.1, 0.0])


def _arch() -> np.ndarray:
    outer = np.concatenate([[(-0.45, 0.5)], _arc(0.45, 180, 360) - [0, 0.05], [(0.45, 0.5)]])
    inner = np.concatenate([[(0.23, 0.5)], _arc(0.23, 360, 180) - [0, 0.05], [(-0.23, 0.5)]])
    return np.concatenate([outer, inner])


def _pen() -> np.ndarray:
    return np.array([(-0.08, -0.5), (0.08, -0.5), (0.08, 0.3), (0.0, 0.5), (-0.08, 0.3)])


@lru_cache(maxsize=1)
def _outlines() -> dict[str, Outline]:
    triangle = np.array([(0.0, -0.425), (0.5, 0.425), (-0.5, 0.425)])
    half = _arc(0.5, 180, 360) + np.array([0, 0.25])
    return {
        "circle": (_arc(0.5, 0, 360), None),
        "ring": (_arc(0.5, 0, 360), _arc(0.38, 0, 360)),
        "square": (_box(0.9, 0.9), None),
        "frame": (_box(0.95, 0.95), _box(0.7, 0.7)),
        "wide bar": (_box(1.0, 0.34), None),
        "tall bar": (_box(0.34, 1.0), None),
        "triangle": (triangle, None),
        "funnel": (-triangle, None),
        "half circle": (half, None),
        "bowl": (-half, None),
        "diamond": (np.array([(0, -0.5), (0.4, 0), (0, 0.5), (-0.4, 0)]), None),
        "cross": (_cross(), None),
        "star": (_spikes(0.5, 0.2, 5), None),
        "arch": (_arch(), None),
        "oval": (_arc(0.5, 0, 360) * np.array([1.0, 0.58]), None),
        "heart": (_heart(), None),
        "crescent": (_crescent(), None),
        "hexagon": (_arc(0.5, 0, 300, 6), None),
        "flower": (_flower(), None),
        "pen": (_pen(), None),
    }


def shade(name: str, rng: np.random.Generator) -> np.ndarray:
    """One random shade of a named colour, uint8 RGB of shape ``(3,)``."""
    base = np.asarray(COLOURS[name], dtype=float)
    jitter = rng.normal(0, 9) + rng.normal(0, 7, 3)
    return np.clip(base + jitter, 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _grid() -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(CANVAS, dtype=np.float32) / SUPERSAMPLE
    v, u = np.meshgrid(axis, axis, indexing="ij")
    return u, v


def texture_index(
    name: str, period: float, angle: float, offset: tuple[float, float]
) -> np.ndarray:
    """Which of the fill's colours each canvas pixel takes, ``(CANVAS, CANVAS)`` int.

    ``period`` is the length of one repetition in image pixels and ``angle`` a rotation in
    degrees. Index 2 only occurs in plaid, where the two directions of bands differ.
    """
    u, v = _grid()
    turn = math.radians(angle + (45 if name == "diagonally striped" else 0))
    x = (math.cos(turn) * u + math.sin(turn) * v + offset[0]) / period
    y = (-math.sin(turn) * u + math.cos(turn) * v + offset[1]) / period
    fx, fy = x - np.floor(x), y - np.floor(y)
    if name in ("vertically striped", "diagonally striped"):
        return (fx < 0.5).astype(np.intp)
    if name == "horizontally striped":
        return (fy < 0.5).astype(np.intp)
    if name == "dotted":
        return ((fx - 0.5) ** 2 + (fy - 0.5) ** 2 < 0.09).astype(np.intp)
    if name == "checkered":
        return ((np.floor(2 * x) + np.floor(2 * y)) % 2).astype(np.intp)
    if name == "mesh":
        p, q = (x + y) % 1.0, (x - y) % 1.0
        return ((p < 0.2) | (q < 0.2)).astype(np.intp)
    if name == "zigzag":
        return ((y + np.abs((x % 1.0) - 0.5)) % 1.0 < 0.5).astype(np.intp)
    if name == "brick":
        rows = np.floor(2 * y)
        fx = (x + 0.5 * (rows % 2)) % 1.0
        return ((fx < 0.13) | ((2 * y) % 1.0 < 0.26)).astype(np.intp)
    if name == "plaid":
        return np.where(fy < 0.4, 2, np.where(fx < 0.4, 1, 0))
    raise ValueError(f"unknown texture {name!r}")


def textured(index: np.ndarray, palette: np.ndarray, plaid: bool = False) -> Image.Image:
    """Colour an index map with ``palette`` ``(K, 3)``; plaid bands blend where they cross."""
    colours = palette
    if plaid:
        bands = palette if len(palette) > 2 else palette[[0, 1, 1]]
        ground, down, across = bands[:3].astype(float)
        # Half-transparent bands: the look of woven threads crossing.
        colours = np.stack([ground, 0.25 * ground + 0.75 * down, 0.25 * ground + 0.75 * across])
    return Image.fromarray(colours.astype(np.uint8)[index])


def fill_polygon(
    canvas: Image.Image,
    shape: str,
    matrix: np.ndarray,
    centre: Sequence[float],
    paint: Image.Image | tuple[int, int, int],
) -> None:
    """Paint ``shape`` after mapping its points by ``matrix`` ``(2, 2)`` and ``centre``."""
    outer, hole = _outlines()[shape]
    shift = np.asarray(centre)
    mask = Image.new("L", canvas.size, 0)
    pen = ImageDraw.Draw(mask)
    pen.polygon((outer @ matrix.T + shift).ravel().tolist(), fill=255)
    if hole is not None:
        pen.polygon((hole @ matrix.T + shift).ravel().tolist(), fill=0)
    canvas.paste(paint, (0, 0, *canvas.size) if isinstance(paint, tuple) else (0, 0), mask)


def background(name: str, rng: np.random.Generator) -> Image.Image:
    """A canvas in shades of the named colour: plain, or fading in a random direction."""
    first = shade(name, rng).astype(float)
    if rng.random() < 0.5:
        return Image.new("RGB", (CANVAS, CANVAS), tuple(int(c) for c in first))
    second = np.clip(first + rng.normal(0, 30), 0, 255)
    u, v = _grid()
    angle = rng.uniform(0, 2 * math.pi)
    ramp = (np.cos(angle) * u + np.sin(angle) * v) / IMAGE_SIZE
    ramp = (ramp - ramp.min()) / (np.ptp(ramp) + 1e-6)
    pixels = first + ramp[..., None] * (second - first)
    return Image.fromarray(pixels.astype(np.uint8))


def finish(canvas: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Average the canvas down to ``(64, 64, 3)`` uint8 and add a little sensor noise."""
    small = np.asarray(canvas.reduce(SUPERSAMPLE), dtype=np.float32)
    noise = rng.normal(0, rng.uniform(0, 8), small.shape)
    return np.clip(small + noise, 0, 255).astype(np.uint8)
