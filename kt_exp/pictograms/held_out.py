"""Held-out concepts: what they look like, and which looks and names training must avoid.

Two sets that never share a choice: ``REPORTED`` mirrors the seven rare concepts of the paper,
``DEVELOPMENT`` is what recipes are chosen on. Their descriptions live in ``conf/concepts``.
"""

from __future__ import annotations

from kt_exp.pictograms.scene import Cloth, Fill, Inside, Nest, Node, Part, Row, Scatter, walk
from kt_exp.pictograms.vocabulary import cloth, part

REPORTED: dict[str, Node] = {
    "moongate": Inside(part("circle"), cloth("red", "white", texture="brick", noun="wall")),
    "tonometer": Row((part("pen", "grey"), Inside(part("circle", "blue"), part("oval", "white")))),
    "gyroscope": Nest(3, part("ring", "grey"), part("circle", "red")),
    "bengal stripe": cloth("blue", "white", texture="vertically striped", scale="fine"),
    "floral": Scatter(part("flower", "pink"), Cloth(Fill(("green",)), "cloth")),
    "madras": cloth("red", "yellow", "blue", texture="plaid"),
    "chantilly": Scatter(part("ring", "white"), cloth("purple", "black", texture="mesh")),
}

DEVELOPMENT: dict[str, Node] = {
    "barbican": Inside(part("star"), cloth("brown", "yellow", texture="checkered", noun="wall")),
    "metronome": Inside(part("pen", "black"), part("triangle", "brown")),
    "astrolabe": Nest(3, part("frame", "orange"), part("cross", "blue")),
    "theodolite": Row(
        (part("crescent", "purple"), Inside(part("star", "red"), part("hexagon", "green")))
    ),
    "pekin stripe": cloth("green", "pink", texture="horizontally striped", scale="broad"),
    "gingham": cloth("turquoise", "white", texture="checkered", scale="fine"),
    "toile": Scatter(part("heart", "blue"), Cloth(Fill(("yellow",)), "cloth")),
    "batik": Scatter(part("cross", "white"), cloth("purple", "orange", texture="zigzag")),
}

ROUND = {"circle", "ring", "half circle", "oval", "bowl"}


def _fill_is_held_out(fill: Fill) -> bool:
    colours = set(fill.colours)
    match fill.texture:
        case "vertically striped":
            return {"blue", "white"} <= colours
        case "horizontally striped":
            return {"green", "pink"} <= colours
        case "checkered":
            return {"turquoise", "white"} <= colours
        case "plaid":
            return len(colours & {"red", "yellow", "blue"}) >= 2
    return False


def _inside_is_held_out(node: Inside) -> bool:
    outer = node.outer
    shapes = {n.shape for n in walk(node.inner) if isinstance(n, Part)}
    if isinstance(outer, Part | Cloth):
        if outer.fill.texture == "brick" and shapes & ROUND:
            return True
        if outer.fill.texture == "checkered" and "star" in shapes:
            return True
    return isinstance(outer, Part) and outer.shape == "triangle" and "pen" in shapes


def _row_is_held_out(node: Row) -> bool:
    has_inside = any(isinstance(n, Inside | Nest) for child in node.nodes for n in walk(child))
    shapes = {n.shape for n in node.nodes if isinstance(n, Part)}
    return has_inside and bool(shapes & {"pen", "crescent"})


def is_held_out_look(look: Node) -> bool:
    """Whether a scene shows a held-out look, or one too close to it to be trained on."""
    for node in walk(look):
        match node:
            case Part(_, fill) | Cloth(fill):
                found = _fill_is_held_out(fill)
            case Inside():
                found = _inside_is_held_out(node)
            case Row():
                found = _row_is_held_out(node)
            case Nest(count, frame):
                found = count >= 3 and frame.shape in ("ring", "frame")
            case Scatter(motif, ground):
                found = motif.shape in ("flower", "heart") or ground.fill.texture in (
                    "mesh", "zigzag")
            case _:
                found = False
        if found:
            return True
    return False


def letters(text: str) -> str:
    """Only the letters of a text, lower case: names cannot hide behind spaces or hyphens."""
    return "".join(c for c in text.lower() if c.isalpha())


FORBIDDEN_NAMES = tuple(letters(name) for name in (*REPORTED, *DEVELOPMENT))


def holds_held_out_name(text: str) -> bool:
    """Whether a held-out name occurs anywhere in a text, also inside a longer word."""
    squeezed = letters(text)
    return any(name in squeezed for name in FORBIDDEN_NAMES)
