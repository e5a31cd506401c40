"""Random looks: the free compositions and the looks behind invented names."""

from __future__ import annotations

import numpy as np

from kt_exp.pictograms import draw
from kt_exp.pictograms.held_out import is_held_out_look
from kt_exp.pictograms.scene import (
    Cloth,
    Fill,
    Inside,
    Nest,
    Node,
    Part,
    Row,
    Scatter,
    Stack,
    extent,
)

SHAPES = tuple(draw.SHAPE_EXTENTS)
OUTER = (
    "circle", "ring", "square", "frame", "diamond", "hexagon", "oval", "triangle", "funnel",
    "half circle", "heart", "star",
)
CORES = ("circle", "square", "star", "diamond", "cross", "heart", "flower", "hexagon", "triangle")
FRAMES = ("ring", "frame", "hexagon", "diamond", "square", "circle")


class Composer:
    """Draws looks at random. ``open_rate`` is how often a colour is left open."""

    def __init__(self, rng: np.random.Generator, open_rate: float = 0.0) -> None:
        self.rng, self.open_rate = rng, open_rate
        self.taken: set[str] = set()

    def pick(self, options: tuple[str, ...]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def colour(self) -> str | None:
        if self.rng.random() < self.open_rate:
            return None
        colour = self.pick(tuple(c for c in draw.COLOURS if c not in self.taken))
        self.taken.add(colour)
        return colour

    def fill(self, texture_rate: float) -> Fill:
        if self.rng.random() >= texture_rate:
            return Fill((self.colour(),))
        texture = self.pick(draw.TEXTURES[1:])
        count = 3 if texture == "plaid" and self.rng.random() < 0.5 else 2
        scale = self.pick(("", "", "fine", "broad"))
        return Fill(tuple(self.colour() for _ in range(count)), texture, scale)

    def part(self, shapes: tuple[str, ...] = SHAPES, texture_rate: float = 0.3) -> Part:
        return Part(self.pick(shapes), self.fill(texture_rate))

    def cloth(self, texture_rate: float = 1.0) -> Cloth:
        fill = self.fill(texture_rate)
        walled = fill.texture == "brick" or self.rng.random() < 0.2
        return Cloth(fill, "wall" if walled else "cloth")

    def inside(self) -> Inside:
        outer = self.cloth() if self.rng.random() < 0.4 else self.part(OUTER)
        inner: Node = self.part() if self.rng.random() < 0.85 else self.series((Row, Stack))
        return Inside(inner, outer)

    def nest(self) -> Nest:
        frame = self.part(FRAMES[:2] if self.rng.random() < 0.6 else FRAMES, 0.0)
        return Nest(int(self.rng.integers(1, 4)), frame, self.part(CORES, 0.0))

    def series(self, kinds: tuple[type[Row | Stack], ...], deep: bool = False) -> Node:
        kind = kinds[int(self.rng.integers(len(kinds)))]
        if self.rng.random() < 0.3:
            return kind((self.part(texture_rate=0.15),) * int(self.rng.integers(2, 5)))
        nodes: list[Node] = [self.part(texture_rate=0.2), self.part(texture_rate=0.2)]
        if deep and self.rng.random() < 0.4:
            nodes[int(self.rng.integers(2))] = Inside(self.part(CORES, 0.0), self.part(OUTER, 0.1))
        elif self.rng.random() < 0.25:
            nodes.append(self.part(texture_rate=0.1))
        return kind(tuple(nodes))

    def look(self) -> Node:
        """Any look, held-out ones included."""
        self.taken = set()
        kind = self.rng.random()
        if kind < 0.14:
            return self.part(texture_rate=0.5)
        if kind < 0.40:
            return self.inside()
        if kind < 0.62:
            return self.series((Stack, Row), deep=True)
        if kind < 0.74:
            return self.nest()
        if kind < 0.86:
            return Scatter(self.part(texture_rate=0.0), self.cloth(texture_rate=0.5))
        return self.cloth()


def random_look(rng: np.random.Generator, open_rate: float = 0.0) -> Node:
    """A random look that is not held out, and not too flat to be drawn at 64 px."""
    composer = Composer(rng, open_rate)
    while True:
        look = composer.look()
        width, height = extent(look)
        if max(width, height) < 4 * min(width, height) + 1 and not is_held_out_look(look):
            return look
