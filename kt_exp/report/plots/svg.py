"""Converts matplotlib's SVG for embedding: no identifiers, the page's fonts and colours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from kt_exp.drawing import LIGHT

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ET.register_namespace("", _SVG)
_FONTS = "system-ui, sans-serif"
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_FONT_LIST = re.compile(r"'DejaVu Sans'[^;]*")


def page_svg(source: str, label: str, tips: Mapping[str, Sequence[str]], themed: bool) -> Markup:
    """Return matplotlib's SVG `source` as an <svg> for a page or a file of its own.

    References are expanded in place, since identifiers of several pictures would collide on one
    page. With `themed`, the project's colours become the page's variables.

    Args:
        label: a sentence that says what the picture shows, for screen readers.
        tips: tooltips by the identifier of their artist, one per mark of the artist, in order.
    """
    root = ET.fromstring(_NOT_IN_XML.sub("", source))
    for child in [*root.findall(_tag("metadata")), *root.findall(_tag("defs"))]:
        root.remove(child)
    _write_out_references(root)
    for group in root.iter(_tag("g")):
        if (texts := tips.get(group.get("id", ""))) is not None:
            _add_tips(group, texts)
    for element in root.iter():
        _simplify(element, themed)
    # matplotlib sets round joins in a <style>, which would apply to the whole page.
    root.attrib |= {"role": "img", "aria-label": label, "stroke-linejoin": "round"}
    return Markup(ET.tostring(root, encoding="unicode"))


def _write_out_references(root: ET.Element) -> None:
    """Copy the shapes of marks to where they are used, and remove their definitions."""
    shapes = {shape.get("id"): shape for defs in root.iter(_tag("defs")) for shape in defs}
    for use in [*root.iter(_tag("use"))]:
        shape = shapes[use.attrib.pop(f"{{{_XLINK}}}href").removeprefix("#")]
        place = f"translate({use.attrib.pop('x')} {use.attrib.pop('y')})"
        styles = [one for element in (use, shape)
                  for one in element.get("style", "").split("; ") if one]
        use.tag = shape.tag
        use.attrib |= {"d": shape.get("d", ""), "transform": place,
                       "style": "; ".join(dict.fromkeys(styles))}
    for parent in [*root.iter()]:
        for defs in parent.findall(_tag("defs")):
            parent.remove(defs)


def _add_tips(group: ET.Element, texts: Sequence[str]) -> None:
    marks = [path for path in group.iter(_tag("path")) if "transform" in path.attrib] or [group]
    for mark, text in zip(marks, texts, strict=True):
        mark.set("class", "mark")
        ET.SubElement(mark, _tag("title")).text = text


def _simplify(element: ET.Element, themed: bool) -> None:
    # Nothing is drawn outside the frame, so there is nothing to clip.
    for name in ("id", "clip-path", "version"):
        element.attrib.pop(name, None)
    for name, value in element.attrib.items():
        short = _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}", value.replace("\n", " "))
        if name == "style":
            short = _FONT_LIST.sub(_FONTS, short)
            short = _themed(short) if themed else short
        element.set(name, short.strip())
    if not (element.text or "").strip():
        element.text = None
    element.tail = None


def _themed(style: str) -> str:
    for name, colour in LIGHT.items():
        style = style.replace(colour, f"var(--{name}, {colour})")
    return style


def _tag(name: str) -> str:
    return f"{{{_SVG}}}{name}"
