"""The same drawing in a third of the bytes: a page has tens of thousands of points."""

import re
from xml.etree import ElementTree

LONG_DECIMAL = re.compile(r"-?\d+\.\d{3,}")
COORDINATES = ("d", "x", "y", "transform")


def compact(root: ElementTree.Element) -> None:
    """Shorten an SVG of matplotlib's in place: hundredths of a point, style said once a group, no white space."""
    for element in root.iter():
        for name in COORDINATES:
            if name in element.attrib:
                element.set(name, _short(element.get(name), is_path=name == "d"))
        if element.tag != "text":
            element.text = (element.text or "").strip() or None
        element.tail = None
        _say_once(element)


def _short(coordinates: str, is_path: bool) -> str:
    rounded = LONG_DECIMAL.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), coordinates)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", rounded).strip() if is_path else rounded


def _say_once(group: ElementTree.Element) -> None:
    """Move the style that all points of a group have to the group; their common shape takes it from there."""
    points = group.findall("use")
    styles = {point.get("style") for point in points}
    if len(points) > 1 and len(points) == len(group) and len(styles) == 1:
        group.set("style", styles.pop())
        for point in points:
            del point.attrib["style"]
