"""Scenes: trees of shapes and relations, and how one is laid out and painted.

A scene is a *look* that may leave colours open (``None``). ``resolve`` closes them at random,
``paint`` turns a closed scene into pixels; both are deterministic given the generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from kt_exp.pictograms import draw

PERIODS = {"fine": 5.0, "": 10.0, "broad": 18.0}


@dataclass(frozen=True)
class Fill:
    """Colours (``None``: open) and the texture they form; ``scale`` is fine, broad or empty."""

    colours: tuple[str | None, ...] = (None,)
    texture: str = "plain"
    scale: str = ""


@dataclass(frozen=True)
class Part:
    """One filled shape."""

    shape: str
    fill: Fill = Fill()


@dataclass(frozen=True)
class Cloth:
    """A fill that covers the whole image; ``noun`` is what captions call it."""

    fill: Fill
    noun: str = "cloth"


@dataclass(frozen=True)
class Scatter:
    """Many small copies of a shape over a cloth."""

    motif: Part
    ground: Cloth


@dataclass(frozen=True)
class Inside:
    """``inner`` in the middle of ``outer``."""

    inner: Node
    outer: Node


@dataclass(frozen=True)
class Stack:
    """Nodes on top of each other, the first one highest."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Row:
    """Nodes next to each other, from left to right."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Nest:
    """``count`` frames of one shape, each within the next, around a core."""

    count: int
    frame: Part
    core: Part


Node = Part | Cloth | Scatter | Inside | Stack | Row | Nest


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below ``node``."""
    match node:
        case Inside(inner, outer):
            return (inner, outer)
        case Stack(nodes) | Row(nodes):
            return nodes
        case Nest(_, frame, core):
            return (frame, core)
        case Scatter(motif, ground):
            return (motif, ground)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """``node`` and everything below it, parents first."""
    yield node
    for child in children(node):
        yield from walk(child)


def rebuild(node: Node, nodes: tuple[Node, ...]) -> Node:
    """``node`` with other children, in the order of ``children``."""
    match node:
        case Inside():
            return Inside(*nodes)
        case Stack():
            return Stack(nodes)
        case Row():
            return Row(nodes)
        case Nest(count):
            return Nest(count, nodes[0], nodes[1])  # type: ignore[arg-type]
        case Scatter():
            return Scatter(nodes[0], nodes[1])  # type: ignore[arg-type]
    return node


def used_colours(node: Node) -> set[str]:
    """Every colour that the scene names."""
    fills = (n.fill for n in walk(node) if isinstance(n, Part | Cloth))
    return {colour for fill in fills for colour in fill.colours if colour}


def resolve(node: Node, rng: np.random.Generator, taken: set[str] | None = None) -> Node:
    """Close open colours with ones that the scene does not use yet; equal parts stay equal."""
    taken = used_colours(node) if taken is None else taken
    if isinstance(node, Part | Cloth):
        colours = []
        for colour in node.fill.colours:
            if colour is None:
                free = [name for name in draw.COLOURS if name not in taken]
                colour = free[int(rng.integers(len(free)))]
                taken.add(colour)
            colours.append(colour)
        return replace(node, fill=replace(node.fill, colours=tuple(colours)))
    below = children(node)
    closed: dict[Node, Node] = {}
    for child in below:
        if child not in closed:
            closed[child] = resolve(child, rng, taken)
    return rebuild(node, tuple(closed[child] for child in below))


def extent(node: Node) -> tuple[float, float]:
    """Width and height of a node in natural units."""
    match node:
        case Part(shape):
            return draw.SHAPE_EXTENTS[shape]
        case Inside(_, outer):
            return extent(outer)
        case Stack(nodes):
            sizes = [extent(n) for n in nodes]
            return max(w for w, _ in sizes), sum(h for _, h in sizes)
        case Row(nodes):
            sizes = [extent(n) for n in nodes]
            return sum(w for w, _ in sizes) + 0.12 * (len(nodes) - 1), max(h for _, h in sizes)
    return 1.0, 1.0


class _Painter:
    """Paints a closed scene on one canvas; holds the scene's rotation and the generator."""

    def __init__(self, canvas: Image.Image, rng: np.random.Generator) -> None:
        self.canvas, self.rng = canvas, rng
        turn = math.radians(rng.uniform(-12, 12))
        self.turn = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        self.shift = np.array([draw.CANVAS / 2, draw.CANVAS / 2])

    def paint_of(self, fill: Fill) -> Image.Image | tuple[int, int, int]:
        palette = np.stack([draw.shade(str(name), self.rng) for name in fill.colours])
        if fill.texture == "plain":
            return int(palette[0][0]), int(palette[0][1]), int(palette[0][2])
        period = PERIODS[fill.scale] * self.rng.uniform(0.85, 1.2)
        offset = tuple(self.rng.uniform(0, period, 2))
        angle = self.rng.uniform(-8, 8)
        index = draw.texture_index(fill.texture, period, angle, offset)
        return draw.textured(index, palette, plaid=fill.texture == "plaid")

    def part(self, part: Part, at: np.ndarray, scale: float, turn: np.ndarray | None = None,
             paint: Image.Image | tuple[int, int, int] | None = None) -> None:
        paint = self.paint_of(part.fill) if paint is None else paint
        wobble = scale * self.rng.uniform(0.94, 1.04, 2)
        matrix = (self.turn if turn is None else turn) * wobble
        draw.fill_polygon(self.canvas, part.shape, matrix, self.turn @ at + self.shift, paint)

    def cloth(self, fill: Fill) -> None:
        paint = self.paint_of(fill)
        self.canvas.paste(paint, (0, 0, draw.CANVAS, draw.CANVAS))

    def node(self, node: Node, at: np.ndarray, scale: float) -> None:
        match node:
            case Part():
                self.part(node, at, scale)
            case Cloth(fill):
                self.cloth(fill)
            case Scatter():
                self.scatter(node)
            case Inside(inner, outer):
                self.inside(inner, outer, at, scale)
            case Stack(nodes):
                self.line(nodes, at, scale, axis=1, gap=0.0)
            case Row(nodes):
                self.line(nodes, at, scale, axis=0, gap=0.12)
            case Nest():
                self.nest(node, at, scale)

    def inside(self, inner: Node, outer: Node, at: np.ndarray, scale: float) -> None:
        self.node(outer, at, scale)
        hollow = isinstance(outer, Part) and outer.shape in ("ring", "frame")
        room = (0.66 if hollow else 0.55) * self.rng.uniform(0.9, 1.1)
        (w, h), (outer_w, outer_h) = extent(inner), extent(outer)
        fit = room * scale * min(outer_w / w, outer_h / h)
        drop = 0.0
        if isinstance(outer, Part):
            # The widest place of these shapes is off their centre.
            drop = {"triangle": 0.14, "half circle": 0.06, "funnel": -0.14, "bowl": -0.06}.get(
                outer.shape, 0.0)
            fit *= 0.8 if outer.shape in ("triangle", "funnel", "star", "diamond") else 1.0
        self.node(inner, at + np.array([0.0, drop * scale]), fit)

    def line(self, nodes: tuple[Node, ...], at: np.ndarray, scale: float, axis: int,
             gap: float) -> None:
        sizes = [extent(n)[axis] for n in nodes]
        cursor = -(sum(sizes) + gap * (len(nodes) - 1)) / 2
        for node, size in zip(nodes, sizes, strict=True):
            place = at.copy()
            place[axis] += scale * (cursor + size / 2)
            self.node(node, place, scale)
            cursor += size + gap

    def nest(self, nest: Nest, at: np.ndarray, scale: float) -> None:
        paint = self.paint_of(nest.frame.fill)
        step = {1: 0.62, 2: 0.66}.get(nest.count, 0.72)
        for level in range(nest.count):
            self.part(nest.frame, at, scale * step**level, paint=paint)
        self.part(nest.core, at, scale * 0.9 * step**nest.count * 0.8)

    def scatter(self, scatter: Scatter) -> None:
        self.cloth(scatter.ground.fill)
        paint = self.paint_of(scatter.motif.fill)
        rows = int(self.rng.integers(3, 5))
        cell = draw.CANVAS / rows
        for row in range(rows):
            for column in range(rows):
                middle = (np.array([column, row]) + 0.5 + self.rng.uniform(-0.15, 0.15, 2)) * cell
                turn = math.radians(self.rng.uniform(-20, 20))
                spin = np.array([[math.cos(turn), -math.sin(turn)],
                                 [math.sin(turn), math.cos(turn)]])
                at = self.turn.T @ (middle - self.shift)
                self.part(scatter.motif, at, 0.62 * cell, turn=spin, paint=paint)


def paint(node: Node, ground: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a closed scene on a ground colour: uint8 ``(64, 64, 3)``."""
    canvas = draw.background(ground, rng)
    painter = _Painter(canvas, rng)
    room = draw.CANVAS * rng.uniform(0.68, 0.92)
    scale = room / max(extent(node))
    slack = (draw.CANVAS - room) / 2
    painter.shift = painter.shift + rng.uniform(-slack, slack, 2) * 0.8
    if isinstance(node, Inside) and isinstance(node.outer, Cloth):
        scale = draw.CANVAS * rng.uniform(0.85, 1.1)
    painter.node(node, np.zeros(2), scale)
    return draw.finish(canvas, rng)


def draw_look(
    look: Node, rng: np.random.Generator, avoid: Callable[[Node], bool] | None = None
) -> tuple[np.ndarray, Node, str]:
    """Close a look, choose a ground colour that its parts do not have, and paint it.

    Closed scenes that ``avoid`` objects to are drawn again with other colours. Returns the
    image uint8 ``(64, 64, 3)``, the closed scene and the ground colour.
    """
    closed = resolve(look, rng)
    while avoid is not None and avoid(closed):
        closed = resolve(look, rng)
    taken = used_colours(closed)
    free = [name for name in draw.COLOURS if name not in taken]
    ground = free[int(rng.integers(len(free)))]
    return paint(closed, ground, rng), closed, ground
