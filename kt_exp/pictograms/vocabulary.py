"""The known classes: everyday names, each with one look in the world's shapes.

Colours that a class does not fix are open, so they differ from drawing to drawing.
"""

from __future__ import annotations

from kt_exp.pictograms.scene import Cloth, Fill, Inside, Nest, Node, Part, Row, Scatter, Stack


def part(shape: str, *colours: str | None, texture: str = "plain", scale: str = "") -> Part:
    """A shape filled with colours, the first open when none is given."""
    return Part(shape, Fill(colours or (None,), texture, scale))


def cloth(*colours: str | None, texture: str, scale: str = "", noun: str = "cloth") -> Cloth:
    """A fill over the whole image."""
    return Cloth(Fill(colours, texture, scale), noun)


KNOWN_LOOKS: dict[str, Node] = {
    "house": Stack((part("triangle", "red"), part("square"))),
    "mushroom": Stack(
        (part("half circle", "red", "white", texture="dotted"), part("tall bar", "white"))
    ),
    "wheel": Inside(part("cross"), part("ring", "black")),
    "dice": part("square", None, "black", texture="dotted", scale="broad"),
    "umbrella": Stack((part("half circle"), part("tall bar", "black"))),
    "chessboard": part("square", "black", "white", texture="checkered"),
    "tree": Stack((part("circle", "green"), part("tall bar", "brown"))),
    "fir": Stack(
        (part("triangle", "green"), part("triangle", "green"), part("tall bar", "brown"))
    ),
    "snowman": Stack((part("circle", "white"),) * 3),
    "traffic light": Inside(
        Stack((part("circle", "red"), part("circle", "yellow"), part("circle", "green"))),
        part("tall bar", "black"),
    ),
    "lollipop": Stack((part("circle", None, "white", texture="diagonally striped"), part("pen"))),
    "ice cream": Stack((part("circle"), part("funnel", "orange"))),
    "sailboat": Stack((part("triangle", "white"), part("bowl"))),
    "rocket": Stack((part("triangle"), part("tall bar", "grey"), part("triangle", "orange"))),
    "balloon": Stack((part("heart", "red"), part("pen", "black"))),
    "flag": Row((part("pen", "black"), part("wide bar", None, None, texture="vertically striped"))),
    "window": Inside(part("cross", "brown"), part("square", "turquoise")),
    "candle": Stack((part("diamond", "yellow"), part("tall bar", "white"))),
    "cake": Stack((part("heart"), part("wide bar", "pink"), part("wide bar", "brown"))),
    "ambulance": Inside(part("cross", "red"), part("wide bar", "white")),
    "planet": Stack((part("crescent", "yellow"), part("circle", "blue"))),
    "egg cup": Stack((part("oval", "white"), part("bowl", "blue"))),
    "sheriff badge": Inside(part("star", "yellow"), part("circle", "brown")),
    "envelope": Inside(part("heart", "red"), part("frame", "white")),
    "bridge": Row((part("arch", "grey"),) * 3),
    "sunflower": Stack((part("flower", "yellow"), part("tall bar", "green"))),
    "honeycomb": Scatter(
        part("hexagon", "orange"), Cloth(Fill(("yellow",), "plain"), "cloth")
    ),
    "barcode": part("square", "black", "white", texture="vertically striped", scale="fine"),
    "bee": part("oval", "yellow", "black", texture="vertically striped"),
    "beach ball": part("circle", None, None, texture="diagonally striped", scale="broad"),
    "night sky": Scatter(part("star", "yellow"), Cloth(Fill(("black",), "plain"), "cloth")),
    "picnic blanket": cloth("red", "white", texture="plaid"),
    "fence": cloth("grey", None, texture="mesh"),
    "target": Nest(2, part("ring", "red"), part("circle", "red")),
    "deck chair": cloth("orange", "white", texture="horizontally striped", scale="broad"),
}
