"""Put scenes into words: full descriptions, or partial ones that leave attributes out.

A partial description is what makes names matter: when "a red circle" is all that is said of a
thing whose look has more to it, a text encoder can only place the caption by its name too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
)

NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "disc"),
    "half circle": ("half circle", "half circle", "dome"),
    "funnel": ("funnel", "upside-down triangle"),
    "wide bar": ("wide bar", "horizontal bar"),
    "tall bar": ("tall bar", "vertical bar"),
    "frame": ("frame", "square frame"),
    "grey": ("grey",),
}
INSIDE = ("inside", "inside", "in the middle of", "within")
ON_TOP = ("on top of", "on top of", "above", "over")
NEXT_TO = ("next to", "next to", "beside")
PLURALS = {"cross": "crosses", "arch": "arches"}
STRIPES = {
    "vertically striped": "vertical stripes",
    "horizontally striped": "horizontal stripes",
    "diagonally striped": "diagonal stripes",
    "dotted": "dots",
    "checkered": "checks",
}


def article(phrase: str) -> str:
    """``phrase`` with "a" or "an" before it."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def plural(noun: str) -> str:
    """The plural of one of the world's nouns."""
    for single, many in PLURALS.items():
        if noun.endswith(single):
            return noun[: -len(single)] + many
    return noun + "s"


@dataclass
class Writer:
    """Words scenes with random synonyms; each attribute is said with probability ``keep``."""

    rng: np.random.Generator
    keep: float = 1.0

    def said(self) -> bool:
        return self.keep >= 1.0 or bool(self.rng.random() < self.keep)

    def pick(self, options: tuple[str, ...]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def colours(self, fill: Fill) -> str:
        names = [name for name in fill.colours if name and self.said()]
        if len(names) < 2:
            return "".join(names)
        return ", ".join(names[:-1]) + " and " + names[-1]

    def noun(self, fill: Fill, noun: str, many: bool = False) -> str:
        """A filled thing without its article, for example "red dotted circle"."""
        noun = plural(noun) if many else noun
        colours = self.colours(fill)
        if fill.texture == "plain" or not self.said():
            return " ".join(filter(None, (colours, noun)))
        scale = fill.scale if self.said() else ""
        if fill.texture in STRIPES and self.rng.random() < 0.35:
            return f"{noun} with {' '.join(filter(None, (scale, colours, STRIPES[fill.texture])))}"
        return " ".join(filter(None, (scale, colours, fill.texture, noun)))

    def part(self, part: Part, many: bool = False) -> str:
        return self.noun(part.fill, self.pick(SYNONYMS.get(part.shape, (part.shape,))), many)

    def series(self, nodes: tuple[Node, ...], relations: tuple[str, ...]) -> str:
        """Nodes joined by a relation; equal shapes are counted instead."""
        first = nodes[0]
        if all(node == first for node in nodes) and isinstance(first, Part):
            relation = self.pick(relations[:2])
            return f"{NUMBERS[len(nodes)]} {self.part(first, many=True)} {relation} each other"
        kept = [n for n in nodes if self.said()] or [nodes[int(self.rng.integers(len(nodes)))]]
        phrase = self.phrase(kept[0])
        for node in kept[1:]:
            phrase += f" {self.pick(relations)} {self.phrase(node)}"
        return phrase

    def inside(self, inner: Node, outer: Node) -> str:
        if not self.said():
            return self.phrase(outer if self.rng.random() < 0.5 else inner)
        if isinstance(outer, Part | Cloth) and self.rng.random() < 0.25:
            return f"{self.phrase(outer)} around {self.phrase(inner)}"
        return f"{self.phrase(inner)} {self.pick(INSIDE)} {self.phrase(outer)}"

    def nest(self, nest: Nest) -> str:
        if not self.said():
            return self.phrase(nest.core if self.rng.random() < 0.3 else nest.frame)
        count = NUMBERS[nest.count] if self.said() or nest.count == 1 else "nested"
        frames = self.part(nest.frame, many=nest.count > 1)
        joint = "nested around" if nest.count > 1 else "around"
        return f"{count} {frames} {joint} {self.phrase(nest.core)}"

    def scatter(self, scatter: Scatter) -> str:
        motif = self.part(scatter.motif, many=True)
        small = "many small" if self.said() else "many"
        if not self.said():
            return f"{small} {motif}"
        return f"{small} {motif} scattered on {self.phrase(scatter.ground)}"

    def phrase(self, node: Node) -> str:
        """A noun phrase with its article for any scene."""
        match node:
            case Part():
                return article(self.part(node))
            case Cloth(fill, noun):
                return article(self.noun(fill, noun))
            case Scatter():
                return self.scatter(node)
            case Inside(inner, outer):
                return self.inside(inner, outer)
            case Stack(nodes):
                return self.series(nodes, ON_TOP)
            case Row(nodes):
                return self.series(nodes, NEXT_TO)
            case Nest():
                return self.nest(node)
        raise TypeError(f"not a scene: {node!r}")
